"""A small lake before its last nights, copies of it, and what has to be the same in the end."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import BUDGET

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.lake.delta_io import Lake

FIRST = date(2024, 1, 1)
NUM_CARDS, NUM_DAYS = 50, 45
LAST = FIRST + timedelta(days=NUM_DAYS - 1)
EVE = LAST - timedelta(days=1)
AS_OF = LAST - timedelta(days=15)
# A lake that stands before a job of the last night is kept under the job's name.
STAGES = ("ingest", "features", "score", "publish", "alerts", "monitor", "report")
BEFORE_EVE, DONE = "eve", "done"
ERROR_TOLERANCE = 1e-5
NOT_COMPARED = {"run_id", "ingest_time", "scored_at"}


def open_at(spark: SparkSession, place: Path) -> Lake:
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    return Lake(spark, load_settings(None, {"lake": str(place), "alert_budget": BUDGET}))


@dataclass(frozen=True)
class Template:
    """Lakes that are made once: before the last two nights, before each job, and done."""

    folder: Path

    @property
    def bank(self) -> Path:
        """Where the deliveries are."""
        return self.folder / "bank"

    def copy(self, stage: str, place: Path) -> Path:
        """A copy of the lake; its model stays where it was registered."""
        shutil.copytree(self.folder / stage, place)
        return place


def build(spark: SparkSession, folder: Path) -> Template:
    """Simulate, ingest, train, and run the last night job by job, keeping the lake before each."""
    from jobs import alerts, features, ingest, monitor, publish, report, score
    from jobs.lake.dates import Dates
    from jobs.lake.nights import Night, lease_nights

    template = Template(folder)
    delivery = _simulated(spark, template, NUM_DAYS)
    lake = _ingested(spark, template, delivery, EVE - timedelta(days=1))
    _put_model_into_service(lake)

    def keep(name: str) -> None:
        shutil.copytree(lake.uri, folder / name)

    def ingested(night: Night) -> None:
        ingest.run(night, delivery)

    later: tuple[Callable[[Night], object], ...] = (
        *(features.run, score.run, publish.run),
        *(alerts.run, monitor.run, report.run),
    )
    keep(BEFORE_EVE)
    with lease_nights(lake, Dates(EVE, EVE)) as night:
        for job in (ingested, *later):
            job(night)
    for name, job in zip(STAGES, (ingested, *later), strict=True):
        keep(name)
        with lease_nights(lake, Dates(LAST, LAST)) as night:
            job(night)
    keep(DONE)
    return template


def build_small(spark: SparkSession, folder: Path, num_days: int) -> Template:
    """A lake without a model, before `ingest` and `features` of its last night, and with both."""
    from jobs import features, ingest
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    template = Template(folder)
    delivery = _simulated(spark, template, num_days)
    last = FIRST + timedelta(days=num_days - 1)
    lake = _ingested(spark, template, delivery, last - timedelta(days=1))
    shutil.copytree(lake.uri, folder / "ingest")
    with lease_nights(lake, Dates(last, last)) as night:
        ingest.run(night, delivery)
    shutil.copytree(lake.uri, folder / "features")
    with lease_nights(lake, Dates(last, last)) as night:
        features.run(night)
    shutil.copytree(lake.uri, folder / DONE)
    return template


def _simulated(spark: SparkSession, template: Template, num_days: int) -> Any:
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery
    from jobs.simulate import simulate
    from jobs.simulation.plan import SimulationPlan

    place = str(template.bank)
    simulate(spark, SimulationPlan(place, NUM_CARDS, num_days, seed=5, first_day=FIRST))
    _add_a_bad_row(template.bank, FIRST + timedelta(days=num_days - 1))
    return Delivery(place, "parquet", load_mapping("simulated"))


def _add_a_bad_row(bank: Path, day: date) -> None:
    """A row of a day once more without its card, so that every table gets rows that night."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = bank / "transactions" / f"business_date={day}"
    row = pq.ParquetFile(min(folder.glob("*.parquet"))).read().slice(0, 1)
    for name, value in (("transaction_id", "without-card"), ("card_id", None)):
        at = row.schema.get_field_index(name)
        field = pa.field(name, pa.string())
        row = row.set_column(at, field, pa.array([value], pa.string()))
    pq.write_table(row, folder / "part-bad.parquet")


def _ingested(spark: SparkSession, template: Template, delivery: Any, until: date) -> Lake:
    """A lake of the nights up to one, with features."""
    from jobs import features, ingest
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    lake = open_at(spark, template.folder / "lake")
    lake.create()
    with lease_nights(lake, Dates(FIRST, until)) as night:
        ingest.run(night, delivery)
        features.run(night)
    return lake


def _put_model_into_service(lake: Lake) -> None:
    from fraud_models.recipes import recipe
    from fraud_models.registry.mlflow_registry import CHAMPION
    from jobs import train
    from jobs.models.model_store import open_registry
    from jobs.models.training_plan import TrainingPlan

    config = recipe("lstm_autoencoder")
    optimisation = replace(config.optimisation, epochs=2, batch_size=16)
    config = replace(config, train_days=21, optimisation=optimisation)
    version = train.run(lake, TrainingPlan(AS_OF, "lstm_autoencoder", config, 2))
    open_registry(lake).set_alias(CHAMPION, version)


# -- pictures ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """What a lake shows to its readers."""

    # Rows and the sum of their hashes, by table and night; scores are counted only.
    parts: dict[str, dict[date, tuple[int, int]]]
    versions: dict[str, int]
    # The night that is looked at closely.
    day: date
    # Its errors by transaction.
    errors: dict[str, float]
    # Rank, card and transaction.
    alerts: list[tuple[int, str, str]]
    # State, holder and finished jobs of every night, and the run of each job.
    nights: dict[date, tuple[str, str | None, dict[str, str]]]
    runs: Counter[str]

    @property
    def night(self) -> tuple[str, str | None, dict[str, str]]:
        """State, holder and finished jobs of the night."""
        return self.nights.get(self.day, ("not begun", None, {}))

    def brief(self) -> str:
        """The night in one line."""
        state, holder, jobs = self.night
        rows = "/".join(
            str(self.parts[name].get(self.day, (0, 0))[0])
            for name in ("transactions", "labels", "quarantine", "features", "scores", "alerts")
        )
        return f"{state}{', held' if holder else ''}, {len(jobs)} jobs, rows {rows}"

    def half_shown(self, whole: Picture) -> list[str]:
        """Nights of which a table shows something else than nothing or everything."""
        return [
            f"{name} of {day}: {found} instead of {whole.parts[name].get(day)} or nothing"
            for name, nights in self.parts.items()
            for day, found in nights.items()
            if found != whole.parts[name].get(day)
        ]

    def differences(self, whole: Picture) -> list[str]:
        """What is not as it is in a lake that nobody has disturbed."""
        found = self.half_shown(whole)
        found += [
            f"{name} of {day} is not there"
            for name, nights in whole.parts.items()
            for day in nights
            if day not in self.parts[name]
        ]
        if set(self.errors) != set(whole.errors):
            found.append("other transactions are scored")
        found += [
            f"the error of {key} is {error} instead of {whole.errors[key]}"
            for key, error in self.errors.items()
            if key in whole.errors
            and not math.isclose(error, whole.errors[key], rel_tol=ERROR_TOLERANCE)
        ]
        if self.alerts != whole.alerts:
            found.append(f"alerts are {self.alerts} instead of {whole.alerts}")
        return found + self._unfinished(whole)

    def _unfinished(self, whole: Picture) -> list[str]:
        (state, holder, jobs), wanted = self.night, whole.night
        found = []
        if (state, holder, set(jobs)) != (*wanted[:2], set(wanted[2])):
            found.append(f"the night is {state}, held by {holder}, with {sorted(jobs)} finished")
        found += [
            f"{job} of {day} has {self.runs[run_id]} rows in `runs`"
            for day, (_, _, done) in self.nights.items()
            for job, run_id in done.items()
            if self.runs[run_id] != 1
        ]
        return found


def run_again(lake: Lake, day: date = LAST) -> None:
    """Run a night by the process of the test, which is warm: a command's start costs most of it."""
    from jobs import nightly

    nightly.run(lake, day)


def picture(lake: Lake, day: date = LAST) -> Picture:
    """Look at a lake as it is now, and closely at one night."""
    from pyspark.sql import functions as F

    from jobs.lake import tables as t

    counted = [
        *(_by_night(lake, table, exact=True) for table in _exact_tables()),
        *(_by_night(lake, table, exact=False) for table in (t.SCORES, t.ALERTS)),
    ]
    parts: dict[str, dict[date, tuple[int, int]]] = {
        table.name: {} for table in (*_exact_tables(), t.SCORES, t.ALERTS)
    }
    for row in reduce(lambda one, other: one.unionByName(other), counted).collect():
        parts[row["name"]][row["business_date"]] = (row["rows"], int(row["hash"]))
    scores = lake.read(t.SCORES).where(F.col("business_date") == F.lit(day)).collect()
    alerts = lake.read(t.ALERTS).where(F.col("business_date") == F.lit(day)).orderBy("rank")
    nights = {
        row["business_date"]: (
            row["state"],
            row["holder"],
            {job: json.loads(text)["run_id"] for job, text in row["jobs"].items()},
        )
        for row in lake.read(t.NIGHTS).collect()
    }
    done = lake.read(t.RUNS).where("status = 'done'").select("run_id").collect()
    return Picture(
        parts,
        lake.versions(t.TABLES.values()),
        day,
        {row["transaction_id"]: row["reconstruction_error"] for row in scores},
        [(row["rank"], row["card_id"], row["transaction_id"]) for row in alerts.collect()],
        nights,
        Counter(row["run_id"] for row in done),
    )


def _exact_tables() -> tuple[Any, ...]:
    from jobs.lake import tables as t

    return t.TRANSACTIONS, t.LABELS, t.QUARANTINE, t.FEATURES_TABLE


def _by_night(lake: Lake, table: Any, *, exact: bool) -> DataFrame:
    """Rows and hash of each night; equal to the last bit when both are equal."""
    from pyspark.sql import functions as F

    frame = lake.read(table)
    if "source" in frame.columns:
        # Some tests have their deliveries at a place of their own.
        frame = frame.withColumn("source", F.regexp_replace("source", "^.*/bank/", ""))
    names = [name for name in sorted(frame.columns) if name not in NOT_COMPARED]
    columns = names if exact else ["transaction_id"]
    hashed = F.xxhash64(*columns).cast("decimal(38,0)")
    return (
        frame.groupBy("business_date")
        .agg(F.count("*").alias("rows"), F.sum(hashed).alias("hash"))
        .withColumn("name", F.lit(table.name))
    )


def end_leases(lake: Lake) -> None:
    """As if all holders had been silent for long."""
    from jobs.lake.tables import NIGHTS

    lake.delta_table(NIGHTS).update(set={"lease_until": "current_timestamp() - INTERVAL 1 HOUR"})
