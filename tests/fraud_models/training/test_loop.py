"""Training: it learns, is reproducible, resumes after a kill, and ranks agree."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from feature_defs.errors import FraudScoringError, InputMissing
from fraud_models.config import HeadConfig, ModelConfig
from fraud_models.registry.checkpoint import load_checkpoint
from fraud_models.scoring.scorer import Scorer, rank_stream
from fraud_models.training.loop import TrainingRun, train
from fraud_models.training.run_state import FINISHED, LOG_MOMENT, RankLog, active_ranks
from tests.fraud_models.conftest import make_stream, semi_supervised, small_config

WriteSnapshot = Callable[..., str]
RATE_BY_ID = ("transaction_id", "merchant_fraud_rate_7d_delay_7d")
LENGTHS = [5, 9, 14, 30, 8, 21, 6, 17, 12, 40, 11, 7]


ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def importable_in_spawned_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def config_of(**changes: Any) -> ModelConfig:
    config = small_config()
    return replace(config, optimisation=replace(config.optimisation, **changes))


def run_of(uri: str, folder: Path, config: ModelConfig) -> TrainingRun:
    return TrainingRun(uri, str(folder), config, timeout_s=30.0)


def losses(summary: dict[str, Any]) -> list[tuple[float, ...]]:
    names = ("train_loss", "validation_loss")
    return [tuple(e[name] for name in names if name in e) for e in summary["history"]]


def test_one_batch_can_be_overfitted(write_snapshot: WriteSnapshot, tmp_path: Path) -> None:
    uri = write_snapshot([8, 8], 1)
    config = config_of(epochs=40, patience=40, learning_rate=0.03, batch_size=8)
    summary = train(run_of(uri, tmp_path / "run", config))
    first, last = summary["history"][0]["train_loss"], summary["history"][-1]["train_loss"]
    assert last < first - 2.5
    assert summary["best_epoch"] >= 1


def test_same_seed_gives_the_same_losses_and_weights(
    write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    uri = write_snapshot(LENGTHS, 4)
    runs = [train(run_of(uri, tmp_path / name, config_of())) for name in ("a", "b")]
    assert losses(runs[0]) == losses(runs[1])
    assert runs[0]["sha256"] != ""
    weights = [load_checkpoint(run["checkpoint_uri"], run["sha256"]).weights for run in runs]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])
    other = train(run_of(uri, tmp_path / "c", config_of(seed=8)))
    assert losses(other) != losses(runs[0])


def test_head_learns_labels_and_autoencoder_stays_frozen(
    write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    uri = write_snapshot(LENGTHS, 4, labelled=True)
    plain = train(run_of(uri, tmp_path / "plain", config_of()))
    head = HeadConfig(hidden_width=8, epochs=60, learning_rate=0.02)
    config = replace(semi_supervised(config_of()), head=head)
    summary = train(run_of(uri, tmp_path / "semi", config))
    assert losses(summary)[:3] == losses(plain)
    assert (summary["best_epoch"], summary["validation_loss"]) == (
        plain["best_epoch"], plain["validation_loss"]
    )  # fmt: skip
    phases = [entry["phase"] for entry in summary["history"]]
    assert phases == ["autoencoder"] * 3 + ["head"] * 60
    without, with_head = (load_checkpoint(run["checkpoint_uri"]) for run in (plain, summary))
    assert with_head.network_weights.keys() == without.weights.keys()
    assert all(with_head.weights[name].equal(without.weights[name]) for name in without.weights)

    # Frauds are the events at merchants with a fraud rate above 0; this stream is unseen.
    stream = make_stream([60, 80], seed=9)
    ranked = pa.Table.from_batches(rank_stream([stream], Scorer(with_head), ("transaction_id",)))
    rates = dict(zip(*(stream.column(name).to_pylist() for name in RATE_BY_ID), strict=True))
    frauds = [rates[name] > 0 for name in ranked["transaction_id"].to_pylist()]
    assert 1 < sum(frauds) < 20
    assert roc_auc_score(frauds, ranked["ranking_value"].to_numpy()) > 0.9


def test_progress_has_a_line_per_epoch(write_snapshot: WriteSnapshot, tmp_path: Path) -> None:
    uri = write_snapshot(LENGTHS, 2)
    summary = train(run_of(uri, tmp_path / "run", config_of()))
    lines = (tmp_path / "run" / "progress.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == summary["history"]
    assert len(lines) == 3
    assert not list((tmp_path / "run").glob("*.pt"))


def test_training_stops_early_without_improvement(
    write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    uri = write_snapshot([8, 8], 1)
    config = config_of(epochs=300, patience=2, learning_rate=0.5)
    summary = train(run_of(uri, tmp_path / "run", config))
    assert summary["epochs"] < 300
    assert summary["epochs"] - summary["best_epoch"] == 2
    best = min(e["validation_loss"] for e in summary["history"])
    assert summary["validation_loss"] == best


def _train_and_die(run: TrainingRun, last_epoch: int) -> None:
    from fraud_models.training import loop, run_state

    def save_and_die(run_dir: str, state: run_state.EpochState) -> None:
        run_state.save_epoch(run_dir, state)
        if state.epoch == last_epoch:
            os.kill(os.getpid(), signal.SIGKILL)

    loop.save_epoch = save_and_die
    train(run)


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("with_head", "last_epoch"),
    [(False, 2), (True, 2), (True, 4), (True, 5)],
    ids=["autoencoder only", "before the head", "between phases", "in the head"],
)
def test_resumed_run_equals_uninterrupted_run(
    write_snapshot: WriteSnapshot, tmp_path: Path, with_head: bool, last_epoch: int
) -> None:
    uri = write_snapshot(LENGTHS, 4, labelled=with_head)
    config = config_of(epochs=4, patience=4)
    config = semi_supervised(config) if with_head else config
    uninterrupted = train(run_of(uri, tmp_path / "a", config))
    run = run_of(uri, tmp_path / "b", config)
    process = multiprocessing.get_context("spawn").Process(
        target=_train_and_die, args=(run, last_epoch)
    )
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "b" / "checkpoint").exists()
    resumed = train(run)
    assert losses(resumed) == losses(uninterrupted)
    weights = [load_checkpoint(r["checkpoint_uri"]).weights for r in (resumed, uninterrupted)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_resume_with_another_config_is_rejected(
    write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    uri = write_snapshot(LENGTHS, 2)
    train(run_of(uri, tmp_path / "run", config_of()))
    with pytest.raises(InputMissing, match="another config"):
        train(run_of(uri, tmp_path / "run", config_of(seed=9)))
    report = json.loads((tmp_path / "run" / "rank-0.error.json").read_text())
    assert "InputMissing" in report["traceback"]


def test_resume_from_altered_tensors_is_rejected(
    write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    uri = write_snapshot(LENGTHS, 2)
    train(run_of(uri, tmp_path / "run", config_of()))
    state = tmp_path / "run" / "epoch-0003.safetensors"
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(bytes(content))
    with pytest.raises(InputMissing, match="was altered"):
        train(run_of(uri, tmp_path / "run", config_of()))


@pytest.mark.parametrize("damaged", ["", "{}", "[]", '{"sha256": "0"}', None])
def test_resume_from_damaged_json_is_rejected(
    write_snapshot: WriteSnapshot, tmp_path: Path, damaged: str | None
) -> None:
    uri = write_snapshot(LENGTHS, 2)
    train(run_of(uri, tmp_path / "run", config_of(epochs=1)))
    state = tmp_path / "run" / "epoch-0001.json"
    state.write_text(state.read_text()[:-20] if damaged is None else damaged)
    with pytest.raises(InputMissing, match="was altered"):
        train(run_of(uri, tmp_path / "run", config_of(epochs=1)))


def test_active_ranks_are_alive_or_logged_recently(tmp_path: Path) -> None:
    RankLog(str(tmp_path), 0).write("epoch 3")
    (line,) = active_ranks(str(tmp_path))
    assert f"pid {os.getpid()} on {socket.gethostname()}: epoch 3" in line
    ended = multiprocessing.get_context("spawn").Process(target=abs, args=(1,))
    ended.start()
    ended.join()
    now, long_ago = datetime.now(UTC).strftime(LOG_MOMENT), "2024-01-01T00:00:00Z"
    at_work = {
        f"{now} pid {ended.pid} on {socket.gethostname()}: epoch 3": False,
        f"{now} pid 1 on elsewhere: epoch 3": True,
        f"{long_ago} pid 1 on elsewhere: epoch 3": False,
        f"{now} pid 1 on elsewhere: {FINISHED}": False,
    }
    for line, expected in at_work.items():
        (tmp_path / "rank-0.log").write_text(f"{line}\n")
        assert active_ranks(str(tmp_path)) == ([line] if expected else [])


def test_snapshot_with_other_columns_is_rejected(
    write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    uri = write_snapshot(LENGTHS, 2)
    config = replace(small_config(), columns=tuple(reversed(small_config().columns)))
    with pytest.raises(FraudScoringError, match="has the columns"):
        train(run_of(uri, tmp_path / "run", config))


def test_damaged_snapshot_is_rejected(write_snapshot: WriteSnapshot, tmp_path: Path) -> None:
    uri = write_snapshot(LENGTHS, 3)
    first, second, _ = sorted(Path(uri, "data").iterdir())
    first.unlink()
    pq.write_table(pq.read_table(second).slice(1), second)
    with pytest.raises(InputMissing, match=r"part-00000.* is missing; part-00001.* has \d+ bytes"):
        train(run_of(uri, tmp_path / "run", config_of()))


def test_lost_rows_fail_the_training(
    write_snapshot: WriteSnapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fraud_models.training import passes
    from fraud_models.training.petastorm_reader import RowCount, read_batches

    def losing(shard: Any, optimisation: Any, epoch: int, counted: RowCount) -> Iterator[Any]:
        yield from read_batches(shard, optimisation, epoch, counted)
        counted.num_rows -= 1

    monkeypatch.setattr(passes, "read_batches", losing)
    with pytest.raises(InputMissing, match="1 are missing"):
        train(run_of(write_snapshot(LENGTHS, 3), tmp_path / "run", config_of()))


def _rank(rank: int, world_size: int, port: int, run: TrainingRun) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(world_size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    summary = train(run)
    Path(run.run_dir, f"summary-{rank}.json").write_text(json.dumps(summary))


def train_in_ranks(world_size: int, run: TrainingRun) -> list[dict[str, Any]]:
    """Train in real processes that communicate over gloo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_rank, args=(rank, world_size, port, run))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + 180
    for process in processes:
        process.join(max(1.0, deadline - time.monotonic()))
    assert [process.exitcode for process in processes] == [0] * world_size
    return [
        json.loads(Path(run.run_dir, f"summary-{rank}.json").read_text())
        for rank in range(world_size)
    ]


@pytest.mark.distributed
@pytest.mark.parametrize("with_head", [False, True])
def test_losses_of_two_ranks_equal_those_of_one(
    write_snapshot: WriteSnapshot, tmp_path: Path, with_head: bool
) -> None:
    # All rows form one global batch, so that one and two ranks take the same steps.
    uri = write_snapshot(LENGTHS, 3, labelled=with_head)
    config = config_of(epochs=4, batch_size=1000, patience=4)
    config = semi_supervised(config) if with_head else config
    alone = train(run_of(uri, tmp_path / "one", config))
    first, second = train_in_ranks(2, run_of(uri, tmp_path / "two", config))
    assert losses(first) == losses(second)
    for ours, theirs in zip(losses(alone), losses(first), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.distributed
def test_ranks_with_unequal_shares_finish(write_snapshot: WriteSnapshot, tmp_path: Path) -> None:
    uri = write_snapshot([20] * 23, 3)
    first, _ = train_in_ranks(2, run_of(uri, tmp_path / "run", config_of(epochs=2, batch_size=4)))
    assert first["epochs"] == 2
    assert all(math.isfinite(loss) for pair in losses(first) for loss in pair)
