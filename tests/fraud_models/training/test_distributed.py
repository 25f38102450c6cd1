"""Ranks that Spark starts: training, and reports of failed and killed ranks."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from feature_defs.errors import FraudScoringError, UsageError
from fraud_models.registry.checkpoint import load_checkpoint
from fraud_models.training.distributed import TrainingFailed, TrainingHeld, train_distributed
from fraud_models.training.loop import TrainingRun
from fraud_models.training.run_state import RankLog
from tests.fraud_models.conftest import small_config

pytestmark = [pytest.mark.spark, pytest.mark.distributed, pytest.mark.slow]

WriteSnapshot = Callable[[list[int], int], str]
LENGTHS = [5, 9, 14, 30, 8, 21, 6, 17, 12, 40, 11, 7]


def run_of(uri: str, folder: Path, epochs: int) -> TrainingRun:
    config = small_config()
    optimisation = replace(config.optimisation, epochs=epochs, patience=epochs)
    return TrainingRun(uri, str(folder), replace(config, optimisation=optimisation), timeout_s=60)


def launcher_leftovers() -> set[str]:
    return {p.name for p in Path(tempfile.gettempdir()).glob("torchelastic_*")}


# Slow: TorchDistributor starts two ranks, which import torch anew.
def test_two_ranks_train(
    spark: SparkSession, write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    before = launcher_leftovers()
    run = run_of(write_snapshot(LENGTHS, 4), tmp_path / "run", epochs=2)
    summary = train_distributed(spark, run, num_workers=2)
    assert (summary["world_size"], summary["epochs"]) == (2, 2)
    load_checkpoint(summary["checkpoint_uri"], summary["sha256"])
    assert launcher_leftovers() <= before


# Slow: two ranks start, and one has to fail.
def test_failed_rank_is_reported_with_its_traceback(
    spark: SparkSession, write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    run = run_of(write_snapshot(LENGTHS, 2), tmp_path / "run", epochs=2)
    # Size and footer stay unchanged, so only the rank that reads the page detects the damage.
    part = Path(run.snapshot_uri, "data", "part-00001.parquet")
    content = bytearray(part.read_bytes())
    middle = len(content) // 4
    content[middle : middle + 200] = b"\xff" * 200
    part.write_bytes(bytes(content))
    with pytest.raises(TrainingFailed, match="Rank 1 of 2 failed") as caught:
        train_distributed(spark, run, num_workers=2)
    assert "Traceback (most recent call last)" in str(caught.value)
    assert "read_batches" in str(caught.value)


def test_second_start_of_an_active_training_is_rejected(
    spark: SparkSession, write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    run = run_of(write_snapshot(LENGTHS, 4), tmp_path / "run", epochs=2)
    RankLog(run.run_dir, 1).write("epoch 1")
    with pytest.raises(TrainingHeld, match=f"pid {os.getpid()} on .*: epoch 1") as caught:
        train_distributed(spark, run, num_workers=2)
    assert caught.value.exit_code == 5
    assert (tmp_path / "run" / "rank-1.log").exists()


# Slow: waits for the first epoch of two ranks before it kills one.
def test_killed_rank_is_reported(
    spark: SparkSession, write_snapshot: WriteSnapshot, tmp_path: Path
) -> None:
    run = run_of(write_snapshot(LENGTHS, 4), tmp_path / "run", epochs=5000)

    def kill_second_rank() -> None:
        log = tmp_path / "run" / "rank-1.log"
        progress = tmp_path / "run" / "progress.jsonl"
        deadline = time.monotonic() + 120
        while not progress.exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        match = re.search(r"pid (\d+) ", log.read_text())
        assert match
        os.kill(int(match.group(1)), signal.SIGKILL)

    killer = threading.Thread(target=kill_second_rank)
    killer.start()
    with pytest.raises(TrainingFailed, match="rank 1 of 2 was killed") as caught:
        train_distributed(spark, run, num_workers=2)
    killer.join()
    assert "rank 0 of 2 was killed" not in str(caught.value)
    assert "pid" in str(caught.value)


@pytest.mark.parametrize("num_workers", [0, 64])
def test_impossible_number_of_workers_is_rejected(
    spark: SparkSession, tmp_path: Path, num_workers: int
) -> None:
    run = run_of(str(tmp_path), tmp_path / "run", epochs=1)
    with pytest.raises(UsageError, match=f"{num_workers} workers were requested"):
        train_distributed(spark, run, num_workers)


def test_missing_snapshot_is_reported(spark: SparkSession, tmp_path: Path) -> None:
    run = run_of(str(tmp_path / "missing"), tmp_path / "run", epochs=1)
    with pytest.raises(FraudScoringError, match=r"There is no file .*manifest\.json"):
        train_distributed(spark, run, num_workers=1)
