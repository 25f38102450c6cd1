"""Nights on two workers, with a killed rank and a killed executor, equal those of one process.

The workers' environment has only the wheel, and their time zone differs from the driver's. A module
that only the driver has adds a feature and a recipe. The workers' tables are compared with those of
one process, from the same deliveries and with the same model.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.cluster.standalone import Driver, RunningCommand
from tests.cluster.worker_environment import make_bare_python, site_packages
from tests.conftest import settings_for
from tests.processes import CommandResult

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.lake.tables import Table

pytestmark = [pytest.mark.cluster, pytest.mark.spark, pytest.mark.distributed, pytest.mark.slow]

FIRST, NUM_DAYS, NUM_CARDS = date(2024, 1, 1), 75, 60
INTERRUPTED_NIGHT = FIRST + timedelta(days=NUM_DAYS - 1)
NIGHT = INTERRUPTED_NIGHT - timedelta(days=1)
HISTORY_LAST = NIGHT - timedelta(days=1)
# Labels arrive up to a week late, and a week is evaluated.
AS_OF = HISTORY_LAST - timedelta(days=13)
TRAIN = ("train", "--as-of", str(AS_OF), "--recipe", "channel_autoencoder", "--num-workers", "2")
EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
WAIT_S = 900.0
RELATIVE_TOLERANCE = 1e-5


def wait_for(poll: Callable[[], Any], command: RunningCommand) -> Any:
    """Return the first non-empty result of a poll; fail when the command ends before."""
    deadline = time.monotonic() + WAIT_S
    while not (result := poll()):
        if command.process.poll() is not None or time.monotonic() > deadline:
            command.kill()
            raise AssertionError(
                f"the command ended or took too long:\n{command.log.read_text()[-5000:]}"
            )
        time.sleep(0.02)
    return result


def ingest_history(driver: Driver, lake: Path, bank: Path) -> None:
    """Ingest all nights before the last two and build their features."""
    dates = ("--from", str(FIRST), "--to", str(HISTORY_LAST))
    delivery = ("--source", str(bank), "--format", "parquet", "--mapping", "simulated")
    driver.run("ingest", "--lake", str(lake), *delivery, *dates).checked()
    driver.run("features", "--lake", str(lake), *dates).checked()


@pytest.fixture(scope="module")
def bank(on_cluster: Driver, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate the deliveries of 75 days."""
    folder = tmp_path_factory.mktemp("bank") / "deliveries"
    size = ("--num-cards", str(NUM_CARDS), "--days", str(NUM_DAYS), "--seed", "5")
    on_cluster.run("simulate", "--out", str(folder), *size, "--first-day", str(FIRST)).checked()
    return folder


@pytest.fixture(scope="module")
def lake_on_cluster(
    on_cluster: Driver, bank: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Build a lake on the cluster, without a model."""
    lake = tmp_path_factory.mktemp("cluster-lake") / "lake"
    ingest_history(on_cluster, lake, bank)
    return lake


@dataclass(frozen=True)
class InterruptedTraining:
    """A training whose second rank was killed after the first epoch."""

    result: CommandResult
    first_epoch: dict[str, Any]


@pytest.fixture(scope="module")
def interrupted_training(on_cluster: Driver, lake_on_cluster: Path) -> InterruptedTraining:
    """Train, and kill a rank on its worker once an epoch is done."""
    command = on_cluster.start(*TRAIN, "--lake", str(lake_on_cluster))
    staging = lake_on_cluster / "_staging"
    progress = wait_for(lambda: list(staging.glob("train-*/run/progress.jsonl")), command)[0]
    match = re.search(r"pid (\d+) ", (progress.parent / "rank-1.log").read_text())
    assert match
    os.kill(int(match.group(1)), signal.SIGKILL)
    first_epoch = json.loads(progress.read_text().splitlines()[0])
    return InterruptedTraining(command.wait(), first_epoch)


@pytest.fixture(scope="module")
def trained(
    on_cluster: Driver, lake_on_cluster: Path, interrupted_training: InterruptedTraining
) -> CommandResult:
    """Run the same training again."""
    return on_cluster.run(*TRAIN, "--lake", str(lake_on_cluster))


@pytest.fixture(scope="module")
def lake_with_champion(on_cluster: Driver, lake_on_cluster: Path, trained: CommandResult) -> Path:
    """Give the lake a champion: by gate 3, or directly when the bank is too small to pass it."""
    trained.checked()
    lake = ("--lake", str(lake_on_cluster))
    evaluated = ("--from", str(AS_OF), "--to", str(AS_OF + timedelta(days=6)))
    on_cluster.run("evaluate", *evaluated, *lake).checked()
    promoted = on_cluster.run("promote", *lake)
    if promoted.code == 3:
        from fraud_models.registry.mlflow_registry import CHAMPION, Registry

        Registry(registry_uri(lake_on_cluster), str(lake_on_cluster)).set_alias(CHAMPION, 1)
    else:
        promoted.checked()
    return lake_on_cluster


def registry_uri(lake: Path) -> str:
    return f"sqlite:///{lake}/_registry/mlflow.db"


@pytest.fixture(scope="module")
def night_on_cluster(on_cluster: Driver, lake_with_champion: Path) -> Path:
    """Run a night on the cluster without any fault."""
    on_cluster.run("nightly", "--lake", str(lake_with_champion), "--date", str(NIGHT)).checked()
    return lake_with_champion


@dataclass(frozen=True)
class InterruptedNight:
    """A night in which an executor was killed while it scored."""

    result: CommandResult
    partition: int
    processes: dict[int, set[int]]
    """Python processes that started each partition, the killed executor's included."""


@pytest.fixture(scope="module")
def interrupted_night(
    on_cluster: Driver, night_on_cluster: Path, tmp_path_factory: pytest.TempPathFactory
) -> InterruptedNight:
    """Run the last night, and kill the executor of the first scoring task."""
    signals = tmp_path_factory.mktemp("signals")
    script = Path(__file__).with_name("held_nightly.py")
    night = ("nightly", "--lake", str(night_on_cluster), "--date", str(INTERRUPTED_NIGHT))
    command = on_cluster.start_script(script, str(signals), *night)
    task = wait_for(lambda: list(signals.glob("task-*")), command)[0]
    partition, _, pid = map(int, task.name.split("-")[1:])
    (executor,) = [p for p in psutil.Process(pid).parents() if EXECUTOR in p.cmdline()]
    executor.kill()
    (signals / "go").touch()
    result = command.wait()
    processes: dict[int, set[int]] = {}
    for started in signals.glob("task-*"):
        number, _, process = map(int, started.name.split("-")[1:])
        processes.setdefault(number, set()).add(process)
    return InterruptedNight(result, partition, processes)


@pytest.fixture(scope="module")
def lake_on_one_machine(
    on_one_machine: Driver,
    bank: Path,
    lake_with_champion: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Build the lake in one process, and run both nights with the cluster's model."""
    lake = tmp_path_factory.mktemp("local-lake") / "lake"
    ingest_history(on_one_machine, lake, bank)
    for day in (NIGHT, INTERRUPTED_NIGHT):
        on_one_machine.run(
            *("nightly", "--lake", str(lake), "--date", str(day)),
            FRAUD_REGISTRY_URI=registry_uri(lake_with_champion),
        ).checked()
    return lake


@dataclass(frozen=True)
class Reader:
    """Read whole tables of a lake; the lakes of these tests are small."""

    spark: SparkSession
    lake: Path

    def rows(self, table: Table, keys: list[str], where: str = "true") -> pd.DataFrame:
        """Return all rows, ordered by their keys, which must be unique."""
        rows = self._read(table).where(where).toPandas()
        assert not rows[keys].duplicated().any()
        return rows.sort_values(keys, ignore_index=True)

    def as_text(self, table: Table, columns: list[str]) -> list[str]:
        """Return these columns of all rows as sorted texts; rows may be equal."""
        return sorted(map(str, self._read(table).select(*columns).collect()))

    def _read(self, table: Table) -> DataFrame:
        from jobs.lake.delta_io import Lake

        return Lake(self.spark, settings_for(self.lake)).read(table)


def assert_same_bits(left: pd.DataFrame, right: pd.DataFrame, columns: list[str]) -> None:
    """Check that the columns are equal, floating-point numbers to the last bit."""
    assert len(left) == len(right) > 0
    for name in columns:
        a, b = left[name], right[name]
        assert a.dtype == b.dtype, name
        if a.dtype.kind == "f":
            same = np.array_equal(a.to_numpy().view(np.int64), b.to_numpy().view(np.int64))
        else:
            same = a.equals(b)
        assert same, name


def test_killed_rank_is_named_with_its_last_lines(
    interrupted_training: InterruptedTraining,
) -> None:
    assert interrupted_training.result.code == 1
    output = interrupted_training.result.output
    assert "rank 1 of 2 was killed or never started; its last log lines:" in output
    assert re.search(r"pid \d+ on \S+: started", output)
    assert "rank 0 of 2 was killed" not in output


def test_interrupted_training_resumes_after_its_first_epoch(
    spark: SparkSession,
    lake_on_cluster: Path,
    interrupted_training: InterruptedTraining,
    trained: CommandResult,
) -> None:
    from jobs.lake.tables import RUNS

    assert "Model version 1 is the challenger." in trained.checked()
    runs = Reader(spark, lake_on_cluster).rows(RUNS, ["started_at"], "job = 'train'")
    assert list(runs["status"]) == ["failed", "done"]
    training = json.loads(runs["figures"].iloc[1])["training"]
    assert training["world_size"] == 2
    # The epoch is not trained again: its seconds are those of the killed attempt.
    assert training["history"][0] == interrupted_training.first_epoch
    assert len(training["history"]) > 1


def test_cluster_tables_equal_those_of_one_machine(
    spark: SparkSession,
    night_on_cluster: Path,
    interrupted_night: InterruptedNight,
    lake_on_one_machine: Path,
) -> None:
    from jobs.lake.tables import FEATURES_TABLE, LABELS, QUARANTINE, TRANSACTIONS

    interrupted_night.result.checked()
    ours, theirs = Reader(spark, night_on_cluster), Reader(spark, lake_on_one_machine)
    label_keys = ["transaction_id", "label_time", "source"]
    for table, keys, not_compared in (
        (TRANSACTIONS, ["transaction_id"], {"ingest_time"}),
        (LABELS, label_keys, {"ingest_time"}),
        (FEATURES_TABLE, ["transaction_id"], set()),
    ):
        rows, others = ours.rows(table, keys), theirs.rows(table, keys)
        # A lake with attributes has more columns than the table declares.
        columns = [name for name in rows.columns if name not in not_compared]
        assert_same_bits(rows, others, columns)
    quarantined = ["raw", "business_date", "reasons"]
    assert ours.as_text(QUARANTINE, quarantined) == theirs.as_text(QUARANTINE, quarantined)


@pytest.mark.parametrize("day", [NIGHT, INTERRUPTED_NIGHT], ids=["normal", "interrupted"])
def test_cluster_scores_equal_those_of_one_machine(
    spark: SparkSession,
    night_on_cluster: Path,
    interrupted_night: InterruptedNight,
    lake_on_one_machine: Path,
    day: date,
) -> None:
    from jobs.lake.tables import ALERTS, SCORES, TRANSACTIONS

    interrupted_night.result.checked()
    where = f"business_date = DATE'{day}'"
    ours, theirs = Reader(spark, night_on_cluster), Reader(spark, lake_on_one_machine)
    accepted = ours.rows(TRANSACTIONS, ["transaction_id"], where)
    scores, expected = (r.rows(SCORES, ["transaction_id"], where) for r in (ours, theirs))
    assert list(scores["transaction_id"]) == list(accepted["transaction_id"])
    exact = ["transaction_id", "event_time", "num_context_events", "in_sample", "model_version"]
    assert_same_bits(scores, expected, exact)
    for name in ("reconstruction_error", "ranking_value"):
        np.testing.assert_allclose(scores[name], expected[name], rtol=RELATIVE_TOLERANCE)
    alerts, expected = (r.rows(ALERTS, ["rank"], where) for r in (ours, theirs))
    assert_same_bits(alerts, expected, ["rank", "card_id", "transaction_id", "num_transactions"])


def test_the_banks_own_feature_is_a_reason(
    spark: SparkSession, interrupted_night: InterruptedNight, night_on_cluster: Path
) -> None:
    from jobs.lake.tables import SCORES
    from tests.cluster.bank_definitions import OWN_FEATURE

    scores = Reader(spark, night_on_cluster).rows(SCORES, ["transaction_id"])
    reasons = [reason for row in scores["reasons"] for reason in row]
    assert OWN_FEATURE in {reason["feature"] for reason in reasons}
    texts = {r["observed_text"] for r in reasons if r["feature"] == "transaction_merchant_category"}
    assert texts and None not in texts


def test_killed_executor_loses_no_row(
    spark: SparkSession, night_on_cluster: Path, interrupted_night: InterruptedNight
) -> None:
    from jobs.lake.tables import NIGHTS, SCORES, TRANSACTIONS

    interrupted_night.result.checked()
    # Another process has rerun the task that was killed with its executor.
    assert len(interrupted_night.processes[interrupted_night.partition]) >= 2
    where = f"business_date = DATE'{INTERRUPTED_NIGHT}'"
    read = Reader(spark, night_on_cluster)
    scores = read.rows(SCORES, ["transaction_id"], where)
    accepted = read.rows(TRANSACTIONS, ["transaction_id"], where)
    assert list(scores["transaction_id"]) == list(accepted["transaction_id"])
    assert list(read.rows(NIGHTS, ["business_date"], where)["state"]) == ["done"]


def test_doctor_finds_the_wheel_on_both_workers(
    on_cluster: Driver, worker_python: Path, night_on_cluster: Path
) -> None:
    output = on_cluster.run("doctor", "--lake", str(night_on_cluster)).checked()
    installed = site_packages(worker_python).resolve()
    assert re.search(rf"executors +2 slots, fraud-scoring \S+ in {installed}\s", output)
    assert re.search(r"lake on executors +executors see the same lake as the driver", output)


def test_doctor_reports_executors_without_our_packages(on_cluster: Driver, tmp_path: Path) -> None:
    bare = str(make_bare_python(tmp_path))
    spark = json.dumps({**on_cluster.spark, "spark.pyspark.python": bare})
    result = on_cluster.run("doctor", FRAUD_SPARK=spark)
    assert result.code == 1
    assert re.search(r"wrong +executors +executors have fraud-scoring none", result.output)
    assert "No module named" in result.output
    assert "spark.pyspark.python" in result.output


def test_doctor_reports_executors_that_never_start(on_cluster: Driver) -> None:
    spark = json.dumps({**on_cluster.spark, "spark.executor.memory": "9g"})
    result = on_cluster.run("doctor", FRAUD_SPARK=spark)
    assert result.code == 1
    assert re.search(r"wrong +executors +No executor registered", result.output)
    assert "spark.executor.memory" in result.output
