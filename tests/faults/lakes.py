"""Build the small lake that faults are injected into, and copies of it at every job of a night."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import ALERT_BUDGET

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

FIRST_NIGHT = date(2024, 1, 1)
NUM_CARDS, NUM_DAYS = 50, 45
LAST_NIGHT = FIRST_NIGHT + timedelta(days=NUM_DAYS - 1)
PREVIOUS_NIGHT = LAST_NIGHT - timedelta(days=1)
AS_OF = LAST_NIGHT - timedelta(days=15)
# The template keeps one lake per job of the last night: as it is before the job of that name.
STAGES = ("ingest", "features", "score", "publish", "alerts", "monitor", "report")
BEFORE_PREVIOUS_NIGHT, DONE = "before_previous_night", "done"


def open_lake(spark: SparkSession, folder: Path) -> Lake:
    """Open a lake with the settings of these tests."""
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    return Lake(spark, load_settings(None, {"lake": str(folder), "alert_budget": ALERT_BUDGET}))


def rerun_night(lake: Lake, day: date = LAST_NIGHT) -> None:
    """Run a night in the process of the test: starting a command would take most of the time."""
    from jobs import nightly

    nightly.run(lake, day)


def expire_leases(lake: Lake) -> None:
    """Set the end of all leases to an hour ago."""
    from jobs.lake.tables import NIGHTS

    lake.delta_table(NIGHTS).update(set={"lease_until": "current_timestamp() - INTERVAL 1 HOUR"})


@dataclass(frozen=True)
class Template:
    """Lakes that are built once: before the last two nights, before each job, and done."""

    folder: Path

    @property
    def bank(self) -> Path:
        """Return the folder of the deliveries."""
        return self.folder / "bank"

    def copy(self, stage: str, target: Path) -> Path:
        """Copy the lake of a stage; its model stays where it was registered."""
        shutil.copytree(self.folder / stage, target)
        return target


def build_template(spark: SparkSession, folder: Path) -> Template:
    """Simulate, ingest, train, and run the last night job by job, keeping the lake before each."""
    from jobs import alerts, features, ingest, monitor, publish, report, score
    from jobs.lake.dates import Dates
    from jobs.lake.nights import Night, lease_nights

    template = Template(folder)
    delivery = _simulate(spark, template, NUM_DAYS)
    lake = _ingest_history(spark, template, delivery, PREVIOUS_NIGHT - timedelta(days=1))
    _train_champion(lake)

    def keep(name: str) -> None:
        shutil.copytree(lake.uri, folder / name)

    def ingest_delivery(night: Night) -> None:
        ingest.run(night, delivery)

    later: tuple[Callable[[Night], object], ...] = (
        *(features.run, score.run, publish.run),
        *(alerts.run, monitor.run, report.run),
    )
    keep(BEFORE_PREVIOUS_NIGHT)
    with lease_nights(lake, Dates(PREVIOUS_NIGHT, PREVIOUS_NIGHT)) as night:
        for job in (ingest_delivery, *later):
            job(night)
    for name, job in zip(STAGES, (ingest_delivery, *later), strict=True):
        keep(name)
        with lease_nights(lake, Dates(LAST_NIGHT, LAST_NIGHT)) as night:
            job(night)
    keep(DONE)
    return template


def build_small_template(spark: SparkSession, folder: Path, num_days: int) -> Template:
    """Build lakes without a model: before `ingest` and `features` of the last night, and done."""
    from jobs import features, ingest
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    template = Template(folder)
    delivery = _simulate(spark, template, num_days)
    last = FIRST_NIGHT + timedelta(days=num_days - 1)
    lake = _ingest_history(spark, template, delivery, last - timedelta(days=1))
    shutil.copytree(lake.uri, folder / "ingest")
    with lease_nights(lake, Dates(last, last)) as night:
        ingest.run(night, delivery)
    shutil.copytree(lake.uri, folder / "features")
    with lease_nights(lake, Dates(last, last)) as night:
        features.run(night)
    shutil.copytree(lake.uri, folder / DONE)
    return template


def _simulate(spark: SparkSession, template: Template, num_days: int) -> Any:
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery
    from jobs.simulate import simulate
    from jobs.simulation.plan import SimulationPlan

    bank = str(template.bank)
    simulate(spark, SimulationPlan(bank, NUM_CARDS, num_days, seed=5, first_day=FIRST_NIGHT))
    _add_invalid_row(template.bank, FIRST_NIGHT + timedelta(days=num_days - 1))
    return Delivery(bank, "parquet", load_mapping("simulated"))


def _add_invalid_row(bank: Path, day: date) -> None:
    """Deliver one row of a day again without its card, so that every table gets rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = bank / "transactions" / f"business_date={day}"
    row = pq.ParquetFile(min(folder.glob("*.parquet"))).read().slice(0, 1)
    for name, value in (("transaction_id", "without-card"), ("card_id", None)):
        at = row.schema.get_field_index(name)
        field = pa.field(name, pa.string())
        row = row.set_column(at, field, pa.array([value], pa.string()))
    pq.write_table(row, folder / "part-bad.parquet")


def _ingest_history(spark: SparkSession, template: Template, delivery: Any, until: date) -> Lake:
    """Create a lake and fill it with all nights up to a date, with features."""
    from jobs import features, ingest
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    lake = open_lake(spark, template.folder / "lake")
    lake.create()
    with lease_nights(lake, Dates(FIRST_NIGHT, until)) as night:
        ingest.run(night, delivery)
        features.run(night)
    return lake


def _train_champion(lake: Lake) -> None:
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
