"""Nightly runs, a backfill and a replay give the same results: fifty cards, ten nights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.runtime.settings import load_settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake
    from jobs.lake.tables import Table

pytestmark = [
    pytest.mark.usefixtures("adaptive_planning"),
    pytest.mark.faults,
    pytest.mark.spark,
    pytest.mark.distributed,
    pytest.mark.slow,
]

FIRST = date(2024, 1, 1)
NUM_CARDS, NUM_DAYS, NUM_NIGHTS = 50, 45, 10
LAST = FIRST + timedelta(days=NUM_DAYS - 1)
FIRST_NIGHT = LAST - timedelta(days=NUM_NIGHTS - 1)
RELATIVE = 1e-5
# The event of the late row is on the third night; it is delivered two nights later.
HAPPENED, DELIVERED = FIRST_NIGHT + timedelta(days=2), FIRST_NIGHT + timedelta(days=4)


@dataclass(frozen=True)
class Prepared:
    """A lake with history and a champion, and the deliveries of the following nights."""

    place: Path
    bank: Path
    late_bank: Path
    late_id: str
    late_card: str
    late_time: datetime


def open_at(spark: SparkSession, place: Path, **changes: Any) -> Lake:
    from jobs.lake.delta_io import Lake

    return Lake(spark, load_settings(None, {"lake": str(place), "alert_budget": 5, **changes}))


def delivery_of(bank: Path) -> Any:
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery

    return Delivery(str(bank), "parquet", load_mapping("simulated"))


def nights() -> Dates:
    from jobs.lake.dates import Dates

    return Dates(FIRST_NIGHT, LAST)


@pytest.fixture(scope="module")
def prepared(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepare a lake, a bank without late rows, and a copy of the bank with one late row."""
    from fraud_models.recipes import recipe
    from fraud_models.registry.mlflow_registry import CHAMPION
    from jobs import features, ingest, train
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.models.model_store import open_registry
    from jobs.models.training_plan import TrainingPlan
    from jobs.simulate import simulate
    from jobs.simulation.plan import SimulationPlan

    home = tmp_path_factory.mktemp("sameness")
    plan = SimulationPlan(str(home / "bank"), NUM_CARDS, NUM_DAYS, seed=3, first_day=FIRST)
    simulate(spark, replace(plan, late_share=0.0, defect_share=0.0))
    late = _with_one_late_row(spark, home / "bank", home / "late_bank")
    lake = open_at(spark, home / "lake")
    lake.create()
    with lease_nights(lake, Dates(FIRST, FIRST_NIGHT - timedelta(days=1))) as night:
        ingest.run(night, delivery_of(home / "bank"))
        features.run(night)
    config = recipe("lstm_autoencoder")
    config = replace(
        config, train_days=14, optimisation=replace(config.optimisation, epochs=1, batch_size=16)
    )
    version = train.run(lake, TrainingPlan(FIRST_NIGHT, "lstm_autoencoder", config, 1))
    open_registry(lake).set_alias(CHAMPION, version)
    return Prepared(home / "lake", home / "bank", home / "late_bank", *late)


def _with_one_late_row(
    spark: SparkSession, bank: Path, late_bank: Path
) -> tuple[str, str, datetime]:
    """Copy a bank and deliver one payment of its busiest card two nights late."""
    from pyspark.sql import functions as F

    shutil.copytree(bank, late_bank)
    rows = spark.read.parquet(str(bank / "transactions"))
    often = rows.groupBy("card_id").count().orderBy(F.desc("count"), "card_id").head()
    assert often is not None
    chosen = (
        rows.where(F.col("card_id") == often["card_id"])
        .where(F.to_date("event_time") == F.lit(HAPPENED))
        .orderBy("event_time")
        .head()
    )
    assert chosen is not None, "the card that pays most often paid on that day"
    moved = F.when(F.col("transaction_id") == chosen["transaction_id"], F.lit(DELIVERED)).otherwise(
        F.col("business_date")
    )
    shutil.rmtree(late_bank / "transactions")
    moved_rows = rows.withColumn("business_date", moved.cast(rows.schema["business_date"].dataType))
    moved_rows.coalesce(1).write.parquet(str(late_bank / "transactions"))
    return chosen["transaction_id"], chosen["card_id"], chosen["event_time"]


@pytest.fixture(scope="module")
def night_by_night(
    spark: SparkSession, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Run ten nights one by one, without late rows; return the lake's path."""
    return _run_nights(spark, prepared, prepared.bank, tmp_path_factory.mktemp("nightly"))


@pytest.fixture(scope="module")
def with_late_row(
    spark: SparkSession, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Run the same ten nights with one payment that is two nights late."""
    return _run_nights(spark, prepared, prepared.late_bank, tmp_path_factory.mktemp("late"))


def _run_nights(spark: SparkSession, prepared: Prepared, bank: Path, home: Path) -> Path:
    from jobs import nightly

    shutil.copytree(prepared.place, home / "lake")
    reading = {"source": str(bank), "source_format": "parquet", "mapping": "simulated"}
    for day in nights().days:
        nightly.run(open_at(spark, home / "lake", **reading), day)
    return home / "lake"


@contextmanager
def shuffled_into(spark: SparkSession, num_partitions: int) -> Iterator[None]:
    name = "spark.sql.shuffle.partitions"
    before = spark.conf.get(name)
    spark.conf.set(name, str(num_partitions))
    try:
        yield
    finally:
        spark.conf.set(name, before)


def rows_of(lake: Lake, table: Table, version: int | None = None) -> DataFrame:
    return lake.read(table, version).where(nights().sql)


def differing_features(left: DataFrame, right: DataFrame) -> set[str]:
    """Return the transactions whose features differ in any bit, or that one side lacks."""
    columns = left.columns
    both = left.exceptAll(right.select(columns)).unionByName(right.select(columns).exceptAll(left))
    return {row[0] for row in both.select("transaction_id").distinct().collect()}


def differing_errors(left: DataFrame, right: DataFrame) -> set[str]:
    """Return the transactions whose reconstruction errors differ, or that one side lacks."""
    from pyspark.sql import functions as F

    joined = left.select("transaction_id", F.col("reconstruction_error").alias("l")).join(
        right.select("transaction_id", F.col("reconstruction_error").alias("r")),
        "transaction_id",
        "full",
    )
    far = F.abs(F.col("l") - F.col("r")) > RELATIVE * F.greatest(F.abs("l"), F.abs("r"))
    other = joined.where(far | F.col("l").isNull() | F.col("r").isNull())
    return {row[0] for row in other.select("transaction_id").collect()}


def backfilled(spark: SparkSession, lake_at: Path, bank: Path, **choices: Any) -> Lake:
    from jobs import backfill

    lake = open_at(spark, lake_at)
    plan = backfill.BackfillPlan(nights(), "to see whether it is the same", **choices)
    pages = backfill.run(lake, plan, delivery_of(bank))
    assert all(Path(page).exists() for page in pages)
    return lake


@pytest.mark.parametrize(("num_partitions", "events_per_batch"), [(3, 1), (7, 256)])
def test_one_backfill_equals_ten_single_nights(
    spark: SparkSession,
    prepared: Prepared,
    night_by_night: Path,
    tmp_path: Path,
    num_partitions: int,
    events_per_batch: int,
) -> None:
    """A backfill of nights that were never ingested equals the same nights run one by one."""
    from jobs.lake.tables import ALERTS, FEATURES_TABLE, NIGHTS, SCORES, TRANSACTIONS

    shutil.copytree(prepared.place, tmp_path / "lake")
    model = _in_batches_of(open_at(spark, tmp_path / "lake"), events_per_batch)
    with shuffled_into(spark, num_partitions):
        lake = backfilled(spark, tmp_path / "lake", prepared.bank, model=str(model))
    wanted = open_at(spark, night_by_night)
    features = rows_of(lake, FEATURES_TABLE)
    assert features.count() == rows_of(lake, TRANSACTIONS).count() > 300
    assert differing_features(features, rows_of(wanted, FEATURES_TABLE)) == set()
    assert differing_errors(rows_of(lake, SCORES), rows_of(wanted, SCORES)) == set()
    keys = ("business_date", "rank", "transaction_id")
    alerts = sorted(map(tuple, rows_of(lake, ALERTS).select(*keys).collect()))
    assert alerts == sorted(map(tuple, rows_of(wanted, ALERTS).select(*keys).collect()))
    states = lake.read(NIGHTS).where(nights().sql).select("state", "model_version").collect()
    assert {tuple(row) for row in states} == {("done", str(model))}


def _in_batches_of(lake: Lake, events_per_batch: int) -> int:
    """Register the champion again with another scoring batch size; return its version."""
    from fraud_models.registry.checkpoint import save_checkpoint
    from fraud_models.registry.mlflow_registry import CHAMPION, Registration
    from jobs.models.model_store import open_registry, read_checkpoint

    registry = open_registry(lake)
    checkpoint = read_checkpoint(registry.resolve(CHAMPION))
    optimisation = replace(checkpoint.config.optimisation, events_per_batch=events_per_batch)
    config = replace(checkpoint.config, optimisation=optimisation)
    name = f"batches-{events_per_batch}"
    uri = lake.path("_models", name)
    sha256 = save_checkpoint(uri, replace(checkpoint, config=config))
    return registry.register(Registration(uri, sha256, name, {}, {}))


def test_replay_at_recorded_pins_gives_equal_results(
    spark: SparkSession, with_late_row: Path, tmp_path: Path
) -> None:
    """Jobs of finished nights run again, including nights that later received a late row."""
    from jobs import features, nightly, publish, score
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import FEATURES_TABLE, SCORES

    shutil.copytree(with_late_row, tmp_path / "lake")
    lake = open_at(spark, tmp_path / "lake")
    before = {table: lake.version(table) for table in (FEATURES_TABLE, SCORES)}
    for day in (HAPPENED, DELIVERED):
        with shuffled_into(spark, 7), lease_nights(lake, Dates(day, day)) as night:
            for job in (features.run, score.run, publish.run):
                job(night)
        nightly.run(lake, day)
    assert lake.version(SCORES) > before[SCORES]
    for table, differing in ((FEATURES_TABLE, differing_features), (SCORES, differing_errors)):
        now, then = rows_of(lake, table), rows_of(lake, table, before[table])
        assert differing(now, then) == set()


def test_backfill_differs_only_where_the_late_row_has_influence(
    spark: SparkSession, prepared: Prepared, with_late_row: Path, tmp_path: Path
) -> None:
    from pyspark.sql import functions as F

    from jobs.lake.tables import ALERTS, FEATURES_TABLE, NIGHTS, SCORES

    shutil.copytree(with_late_row, tmp_path / "lake")
    lake = open_at(spark, tmp_path / "lake")
    tables = (FEATURES_TABLE, SCORES, ALERTS)
    before = {table: lake.version(table) for table in tables}
    backfilled(spark, tmp_path / "lake", prepared.late_bank, model="as-published")

    # The nights between the event and its delivery were published without the late row. It is in
    # the 7-day and 30-day windows of later payments of the card. The merchant's windows end 7 days
    # before a payment, so they do not contain it.
    after = (F.col("card_id") == prepared.late_card) & (
        F.col("event_time") > F.lit(prepared.late_time)
    )
    of_the_card = rows_of(lake, FEATURES_TABLE).where(after)
    unseen = of_the_card.where(F.col("business_date") < F.lit(DELIVERED))
    windows = {row[0] for row in unseen.select("transaction_id").collect()}
    contexts = {row[0] for row in of_the_card.select("transaction_id").collect()}
    assert windows
    assert windows < contexts
    print(f"the late row {prepared.late_id} is in the windows of {sorted(windows)}")
    features, scores, alerts = (rows_of(lake, table, before[table]) for table in tables)
    assert differing_features(rows_of(lake, FEATURES_TABLE), features) == windows
    differing = differing_errors(rows_of(lake, SCORES), scores)
    assert windows <= differing <= contexts
    # Published alerts do not change.
    assert rows_of(lake, ALERTS).exceptAll(alerts).count() == 0
    assert lake.version(ALERTS) == before[ALERTS]
    reasons = {row["backfill"] for row in lake.read(NIGHTS).where(nights().sql).collect()}
    assert len(reasons) == 1
    assert "to see whether it is the same" in reasons.pop()


def test_finished_backfill_run_again_changes_nothing(
    spark: SparkSession, prepared: Prepared, with_late_row: Path, tmp_path: Path
) -> None:
    """The same arguments mean the same backfill; a killed one resumes with its original model."""
    from jobs import backfill
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS, RUNS, SCORES, TABLES
    from jobs.models.model_store import open_registry

    shutil.copytree(with_late_row, tmp_path / "lake")
    lake = open_at(spark, tmp_path / "lake")
    plan = backfill.BackfillPlan(Dates(HAPPENED, LAST), "twice", starting_at="score")
    first = open_registry(lake).resolve("champion").version
    with pytest.raises(KeyboardInterrupt), lease_nights(lake, plan.dates) as night:
        # The state that a kill shortly after the start would leave.
        night.restart_for_backfill(
            ("ingest", "features"), backfill._models_by_night(lake, plan), plan.to_json()
        )
        raise KeyboardInterrupt
    open_registry(lake).set_alias("champion", _in_batches_of(lake, 64))
    backfill.run(lake, plan, delivery_of(prepared.late_bank))
    models = {row["model_version"] for row in lake.read(SCORES).where(plan.dates.sql).collect()}
    assert models == {str(first)}
    run = lake.read(RUNS).where("job = 'backfill'").collect()
    assert [row["status"] for row in run] == ["done"]
    assert "twice" in run[0]["arguments"]
    versions = lake.versions(TABLES.values())
    backfill.run(lake, plan, delivery_of(prepared.late_bank))
    assert lake.versions(TABLES.values()) == versions
    assert {row["state"] for row in lake.read(NIGHTS).where(nights().sql).collect()} == {"done"}
