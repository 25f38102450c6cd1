"""A bank's nights on two workers, through the same commands: killed, resumed, and still the same.

The workers' environment has the wheel alone, their clocks are in another zone, and what they make
is compared with what one process makes of the same deliveries with the same model.
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

from tests.cluster.standalone import Driver, Ended, Running
from tests.cluster.worker_environment import make_bare_python, site_packages
from tests.conftest import settings_for

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.lake.tables import Table

pytestmark = [pytest.mark.cluster, pytest.mark.spark, pytest.mark.distributed, pytest.mark.slow]

FIRST, NUM_DAYS, NUM_CARDS = date(2024, 1, 1), 75, 60
STRUCK_NIGHT = FIRST + timedelta(days=NUM_DAYS - 1)
NIGHT = STRUCK_NIGHT - timedelta(days=1)
HISTORY_LAST = NIGHT - timedelta(days=1)
# Labels come up to a week late, and a week is judged.
AS_OF = HISTORY_LAST - timedelta(days=13)
TRAIN = ("train", "--as-of", str(AS_OF), "--recipe", "lstm_autoencoder", "--num-workers", "2")
EXECUTOR = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
WAIT_S = 900.0
RELATIVE_TOLERANCE = 1e-5


def wait_for(found: Callable[[], Any], command: Running) -> Any:
    """What is found, as soon as there is something; fails when the command ends before."""
    deadline = time.monotonic() + WAIT_S
    while not (result := found()):
        if command.process.poll() is not None or time.monotonic() > deadline:
            command.end()
            raise AssertionError(f"it never came:\n{command.log.read_text()[-5000:]}")
        time.sleep(0.02)
    return result


def bring_in_history(driver: Driver, lake: Path, bank: Path) -> None:
    """Ingest and features of all nights before the two."""
    dates = ("--from", str(FIRST), "--to", str(HISTORY_LAST))
    delivery = ("--source", str(bank), "--format", "parquet", "--mapping", "simulated")
    driver.run("ingest", "--lake", str(lake), *delivery, *dates).checked()
    driver.run("features", "--lake", str(lake), *dates).checked()


@pytest.fixture(scope="module")
def bank(on_cluster: Driver, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deliveries of 75 days."""
    place = tmp_path_factory.mktemp("bank") / "deliveries"
    size = ("--num-cards", str(NUM_CARDS), "--days", str(NUM_DAYS), "--seed", "5")
    on_cluster.run("simulate", "--out", str(place), *size, "--first-day", str(FIRST)).checked()
    return place


@pytest.fixture(scope="module")
def lake_on_cluster(
    on_cluster: Driver, bank: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A lake that the cluster has filled, without a model."""
    lake = tmp_path_factory.mktemp("cluster-lake") / "lake"
    bring_in_history(on_cluster, lake, bank)
    return lake


@dataclass(frozen=True)
class Broken:
    """A training whose second rank was killed after its first epoch."""

    ended: Ended
    first_epoch: dict[str, Any]


@pytest.fixture(scope="module")
def broken_training(on_cluster: Driver, lake_on_cluster: Path) -> Broken:
    """Train, and kill a rank on its worker as soon as an epoch is done."""
    command = on_cluster.start(*TRAIN, "--lake", str(lake_on_cluster))
    staging = lake_on_cluster / "_staging"
    progress = wait_for(lambda: list(staging.glob("train-*/run/progress.jsonl")), command)[0]
    match = re.search(r"pid (\d+) ", (progress.parent / "rank-1.log").read_text())
    assert match
    os.kill(int(match.group(1)), signal.SIGKILL)
    first_epoch = json.loads(progress.read_text().splitlines()[0])
    return Broken(command.wait(), first_epoch)


@pytest.fixture(scope="module")
def trained(on_cluster: Driver, lake_on_cluster: Path, broken_training: Broken) -> Ended:
    """The same training, started again."""
    return on_cluster.run(*TRAIN, "--lake", str(lake_on_cluster))


@pytest.fixture(scope="module")
def in_service(on_cluster: Driver, lake_on_cluster: Path, trained: Ended) -> Path:
    """The lake with a champion: by gate 3, or by hand where the bank is too small for it."""
    trained.checked()
    lake = ("--lake", str(lake_on_cluster))
    judged = ("--from", str(AS_OF), "--to", str(AS_OF + timedelta(days=6)))
    on_cluster.run("evaluate", *judged, *lake).checked()
    promoted = on_cluster.run("promote", *lake)
    if promoted.code == 3:
        from fraud_models.registry.mlflow_registry import CHAMPION, Registry

        Registry(registry_of(lake_on_cluster), str(lake_on_cluster)).set_alias(CHAMPION, 1)
    else:
        promoted.checked()
    return lake_on_cluster


def registry_of(lake: Path) -> str:
    return f"sqlite:///{lake}/_registry/mlflow.db"


@pytest.fixture(scope="module")
def night_on_cluster(on_cluster: Driver, in_service: Path) -> Path:
    """The lake after an undisturbed night."""
    on_cluster.run("nightly", "--lake", str(in_service), "--date", str(NIGHT)).checked()
    return in_service


@dataclass(frozen=True)
class Struck:
    """A night in which an executor was killed while it scored."""

    ended: Ended
    partition: int
    processes: dict[int, set[int]]
    """Python processes that took up each partition, the killed executor's included."""


@pytest.fixture(scope="module")
def struck_night(
    on_cluster: Driver, night_on_cluster: Path, tmp_path_factory: pytest.TempPathFactory
) -> Struck:
    """Run the last night, and kill the executor of the first task that scores."""
    signals = tmp_path_factory.mktemp("signals")
    script = Path(__file__).with_name("held_nightly.py")
    night = ("nightly", "--lake", str(night_on_cluster), "--date", str(STRUCK_NIGHT))
    command = on_cluster.start_script(script, str(signals), *night)
    task = wait_for(lambda: list(signals.glob("task-*")), command)[0]
    partition, _, pid = map(int, task.name.split("-")[1:])
    (executor,) = [p for p in psutil.Process(pid).parents() if EXECUTOR in p.cmdline()]
    executor.kill()
    (signals / "go").touch()
    ended = command.wait()
    processes: dict[int, set[int]] = {}
    for started in signals.glob("task-*"):
        number, _, process = map(int, started.name.split("-")[1:])
        processes.setdefault(number, set()).add(process)
    return Struck(ended, partition, processes)


@pytest.fixture(scope="module")
def on_one(
    on_one_machine: Driver,
    bank: Path,
    in_service: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A lake that one process has filled, and both nights by the cluster's model."""
    lake = tmp_path_factory.mktemp("local-lake") / "lake"
    bring_in_history(on_one_machine, lake, bank)
    for day in (NIGHT, STRUCK_NIGHT):
        on_one_machine.run(
            *("nightly", "--lake", str(lake), "--date", str(day)),
            FRAUD_REGISTRY_URI=registry_of(in_service),
        ).checked()
    return lake


@dataclass(frozen=True)
class Reader:
    """Reads tables of a lake whole; the lakes of these tests are small."""

    spark: SparkSession
    lake: Path

    def rows(self, table: Table, keys: list[str], where: str = "true") -> pd.DataFrame:
        """All rows, ordered by their keys, which must be unique."""
        rows = self._read(table).where(where).toPandas()
        assert not rows[keys].duplicated().any()
        return rows.sort_values(keys, ignore_index=True)

    def as_text(self, table: Table, columns: list[str]) -> list[str]:
        """These columns of all rows, in an order of their own; rows may be equal."""
        return sorted(map(str, self._read(table).select(*columns).collect()))

    def _read(self, table: Table) -> DataFrame:
        from jobs.lake.delta_io import Lake

        return Lake(self.spark, settings_for(self.lake)).read(table)


def assert_same_bits(left: pd.DataFrame, right: pd.DataFrame, columns: list[str]) -> None:
    """Equal in every column, floating-point numbers to the last bit."""
    assert len(left) == len(right) > 0
    for name in columns:
        a, b = left[name], right[name]
        assert a.dtype == b.dtype, name
        if a.dtype.kind == "f":
            same = np.array_equal(a.to_numpy().view(np.int64), b.to_numpy().view(np.int64))
        else:
            same = a.equals(b)
        assert same, name


def test_a_killed_rank_is_named(broken_training: Broken) -> None:
    assert broken_training.ended.code == 1
    output = broken_training.ended.output
    assert "rank 1 of 2 was killed from outside or never started; its last lines:" in output
    assert re.search(r"pid \d+ on \S+: started", output)
    assert "rank 0 of 2 was killed" not in output


def test_a_broken_training_goes_on(
    spark: SparkSession, lake_on_cluster: Path, broken_training: Broken, trained: Ended
) -> None:
    from jobs.lake.tables import RUNS

    assert "Model version 1 is the challenger." in trained.checked()
    runs = Reader(spark, lake_on_cluster).rows(RUNS, ["started_at"], "job = 'train'")
    assert list(runs["status"]) == ["failed", "done"]
    training = json.loads(runs["figures"].iloc[1])["training"]
    assert training["world_size"] == 2
    # Not trained again: its seconds are those of the attempt that was killed.
    assert training["history"][0] == broken_training.first_epoch
    assert len(training["history"]) > 1


def test_the_cluster_makes_the_rows_of_one_machine(
    spark: SparkSession, night_on_cluster: Path, struck_night: Struck, on_one: Path
) -> None:
    from jobs.lake.tables import FEATURES_TABLE, LABELS, QUARANTINE, TRANSACTIONS

    struck_night.ended.checked()
    ours, theirs = Reader(spark, night_on_cluster), Reader(spark, on_one)
    label_keys = ["transaction_id", "label_time", "source"]
    for table, keys, free in (
        (TRANSACTIONS, ["transaction_id"], {"ingest_time"}),
        (LABELS, label_keys, {"ingest_time"}),
        (FEATURES_TABLE, ["transaction_id"], set()),
    ):
        columns = [name for name in table.column_names if name not in free]
        assert_same_bits(ours.rows(table, keys), theirs.rows(table, keys), columns)
    refused = ["raw", "business_date", "reasons"]
    assert ours.as_text(QUARANTINE, refused) == theirs.as_text(QUARANTINE, refused)


@pytest.mark.parametrize("day", [NIGHT, STRUCK_NIGHT], ids=["undisturbed", "struck"])
def test_the_cluster_scores_as_one_machine(
    spark: SparkSession, night_on_cluster: Path, struck_night: Struck, on_one: Path, day: date
) -> None:
    from jobs.lake.tables import ALERTS, SCORES, TRANSACTIONS

    struck_night.ended.checked()
    where = f"business_date = DATE'{day}'"
    ours, theirs = Reader(spark, night_on_cluster), Reader(spark, on_one)
    accepted = ours.rows(TRANSACTIONS, ["transaction_id"], where)
    scores, expected = (r.rows(SCORES, ["transaction_id"], where) for r in (ours, theirs))
    assert list(scores["transaction_id"]) == list(accepted["transaction_id"])
    exact = ["transaction_id", "event_time", "num_context_events", "in_sample", "model_version"]
    assert_same_bits(scores, expected, exact)
    for name in ("reconstruction_error", "ranking_value"):
        np.testing.assert_allclose(scores[name], expected[name], rtol=RELATIVE_TOLERANCE)
    alerts, expected = (r.rows(ALERTS, ["rank"], where) for r in (ours, theirs))
    assert_same_bits(alerts, expected, ["rank", "card_id", "transaction_id", "num_transactions"])


def test_a_killed_executor_costs_no_row(
    spark: SparkSession, night_on_cluster: Path, struck_night: Struck
) -> None:
    from jobs.lake.tables import NIGHTS, SCORES, TRANSACTIONS

    struck_night.ended.checked()
    # The task that was killed with its executor was taken up by another process.
    assert len(struck_night.processes[struck_night.partition]) >= 2
    where = f"business_date = DATE'{STRUCK_NIGHT}'"
    read = Reader(spark, night_on_cluster)
    scores = read.rows(SCORES, ["transaction_id"], where)
    accepted = read.rows(TRANSACTIONS, ["transaction_id"], where)
    assert list(scores["transaction_id"]) == list(accepted["transaction_id"])
    assert list(read.rows(NIGHTS, ["business_date"], where)["state"]) == ["done"]


def test_the_doctor_sees_the_wheel_on_both_workers(
    on_cluster: Driver, worker_python: Path, night_on_cluster: Path
) -> None:
    output = on_cluster.run("doctor", "--lake", str(night_on_cluster)).checked()
    home = site_packages(worker_python).resolve()
    assert re.search(rf"executors +2 slots, fraud-scoring \S+ in {home}\s", output)
    assert re.search(r"lake on executors +they find what the driver finds", output)


def test_the_doctor_names_executors_without_the_packages(
    on_cluster: Driver, tmp_path: Path
) -> None:
    bare = str(make_bare_python(tmp_path))
    spark = json.dumps({**on_cluster.spark, "spark.pyspark.python": bare})
    ended = on_cluster.run("doctor", FRAUD_SPARK=spark)
    assert ended.code == 1
    assert re.search(r"wrong +executors +executors have fraud-scoring none", ended.output)
    assert "No module named" in ended.output
    assert "spark.pyspark.python" in ended.output


def test_the_doctor_names_executors_that_never_come(on_cluster: Driver) -> None:
    spark = json.dumps({**on_cluster.spark, "spark.executor.memory": "9g"})
    ended = on_cluster.run("doctor", FRAUD_SPARK=spark)
    assert ended.code == 1
    assert re.search(r"wrong +executors +No executor has come", ended.output)
    assert "spark.executor.memory" in ended.output
