"""What a night's gates cost: Spark jobs and seconds beside the whole night.

A small bank trains a model; weeks later comes one night of about a million rows, made of the eight
days of a larger bank: each day's cards count as cards of their own. The night's jobs run as they
are, with a Spark job group around everything that is there for a gate: the counts of rows in the
source and in what was staged, and the verdicts.

    python tests/benchmarks/gate_cost.py --num-rows 1000000

The last line is one JSON object; `gate_share` is the share of the night's seconds.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

SMALL_CARDS, SMALL_DAYS, TRAIN_DAYS = 60, 45, 21
FIRST = date(2024, 1, 1)
# Beyond the reach of the small bank's nights: they are no history for a million rows.
NIGHT = FIRST + timedelta(days=130)
LARGE_DAYS = 8
PAYMENTS_PER_CARD_AND_DAY = 1.9


@dataclass
class Cost:
    """Seconds, and Spark jobs, of one thing."""

    seconds: float = 0.0
    num_jobs: int = 0


@dataclass
class Meter:
    """Sets a job group around what is measured; what is not in a gate is the night's own."""

    spark: SparkSession
    costs: dict[str, Cost] = field(default_factory=dict)
    _inside: bool = False
    _number: int = 0

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Charge what happens inside to `name`, once."""
        if self._inside:
            yield
            return
        self._number += 1
        group = f"{name} {self._number}"
        self._inside = True
        self.spark.sparkContext.setJobGroup(group, name)
        began = time.perf_counter()
        try:
            yield
        finally:
            cost = self.costs.setdefault(name, Cost())
            cost.seconds += time.perf_counter() - began
            cost.num_jobs += len(self._jobs(group))
            self._inside = False
            self.spark.sparkContext.setJobGroup("the night itself", "")

    def _jobs(self, group: str) -> Any:
        return self.spark.sparkContext.statusTracker().getJobIdsForGroup(group)

    def num_other_jobs(self) -> int:
        """Spark jobs of the night that are there for no gate."""
        return len(self._jobs("the night itself"))

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, charged to `name`."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self.measured(name):
                return function(*arguments, **named)

        return call


def meter_gates(meter: Meter) -> None:
    """Charge to each gate what is there for it alone; the jobs look these up when they run."""
    from jobs import ingest, monitor
    from jobs.lake.delta_io import Lake
    from jobs.quality.staged_rows import StagedSuite
    from jobs.quality.suites import scores, transactions

    for name in ("_counted", "night_facts", "_gate"):
        setattr(ingest, name, meter.around(transactions.GATE, getattr(ingest, name)))
    judge, staged_types = StagedSuite.judge, Lake.staged_types

    def judge_staged(suite: StagedSuite, *arguments: Any) -> Any:
        return meter.around(suite.gate, judge)(suite, *arguments)

    StagedSuite.judge = judge_staged  # type: ignore[method-assign]
    Lake.staged_types = meter.around(scores.SUITE.gate, staged_types)  # type: ignore[method-assign]
    monitor.judge = meter.around("monitor, its verdict", monitor.judge)


def make_small_bank(lake: Lake, place: Path) -> None:
    """A lake with 45 nights of 60 cards and a model in service."""
    from fraud_models.recipes import recipe
    from fraud_models.registry.mlflow_registry import CHAMPION
    from jobs import features, ingest, train
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.models.model_store import open_registry
    from jobs.models.training_plan import TrainingPlan
    from jobs.simulate import simulate
    from jobs.simulation.plan import SimulationPlan

    simulate(lake.spark, SimulationPlan(str(place), SMALL_CARDS, SMALL_DAYS, 5, FIRST))
    dates = Dates(FIRST, FIRST + timedelta(days=SMALL_DAYS - 1))
    with lease_nights(lake, dates) as night:
        ingest.run(night, Delivery(str(place), "parquet", load_mapping("simulated")))
        features.run(night)
    config = recipe("lstm_autoencoder")
    quick = replace(config.optimisation, epochs=1, batch_size=16)
    config = replace(config, train_days=TRAIN_DAYS, optimisation=quick)
    as_of = FIRST + timedelta(days=SMALL_DAYS - 15)
    version = train.run(lake, TrainingPlan(as_of, "lstm_autoencoder", config, num_workers=2))
    open_registry(lake).set_alias(CHAMPION, version)


def make_large_delivery(spark: SparkSession, place: Path, num_rows: int) -> None:
    """One delivery of about `num_rows` transactions and as many labels."""
    from pyspark.sql import functions as F

    from jobs.simulate import simulate
    from jobs.simulation.plan import SimulationPlan

    bank = place / "eight-days"
    num_cards = round(num_rows / PAYMENTS_PER_CARD_AND_DAY / LARGE_DAYS)
    simulate(spark, SimulationPlan(str(bank), num_cards, LARGE_DAYS, 7, FIRST))
    moved_days = F.datediff(F.lit(NIGHT), F.col("business_date"))
    moved = F.make_dt_interval(days=moved_days)
    transactions = spark.read.parquet(str(bank / "transactions"))
    transactions = transactions.withColumns(
        {
            "card_id": F.concat("card_id", F.lit("-"), F.col("business_date").cast("string")),
            "event_time": F.col("event_time").cast("timestamp") + moved,
        }
    )
    labels = spark.read.parquet(str(bank / "labels"))
    for name, rows in (("transactions", transactions), ("labels", labels)):
        rows = rows.withColumn("business_date", F.lit(NIGHT))
        rows.repartition(4).write.partitionBy("business_date").parquet(str(place / name))
    (place / "_complete").mkdir()
    (place / "_complete" / str(NIGHT)).touch()
    shutil.rmtree(bank)


def show(meter: Meter, night_s: float, num_rows: int) -> dict[str, float | int]:
    """Print the table; returns what the last line holds."""
    gates = meter.costs
    gate_s = sum(cost.seconds for cost in gates.values())
    num_gate_jobs = sum(cost.num_jobs for cost in gates.values())
    print(f"A night of {num_rows:,} rows")
    for name, cost in (
        *gates.items(),
        ("all gates", Cost(gate_s, num_gate_jobs)),
        ("the whole night", Cost(night_s, num_gate_jobs + meter.num_other_jobs())),
    ):
        share = cost.seconds / night_s
        print(f"{name:<24}{cost.num_jobs:>6} Spark jobs{cost.seconds:>9.1f} s{share:>8.1%}")
    return {
        "num_rows": num_rows,
        "gate_jobs": num_gate_jobs,
        "night_jobs": num_gate_jobs + meter.num_other_jobs(),
        "gate_s": round(gate_s, 2),
        "night_s": round(night_s, 2),
        "gate_share": round(gate_s / night_s, 4),
    }


def main(
    num_rows: Annotated[int, typer.Option("--num-rows", help="Transactions of the night.")],
) -> None:
    """Make a lake, run one night of it, and print what the gates took."""
    from jobs import nightly
    from jobs.lake.delta_io import Lake
    from jobs.lake.tables import SCORES
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        named = {"lake": str(place / "lake"), "source": str(place / "large")}
        settings = load_settings(
            None, {**named, "source_format": "parquet", "mapping": "simulated"}
        )
        lake = Lake(open_session(settings), settings)
        lake.create()
        make_small_bank(lake, place / "small")
        make_large_delivery(lake.spark, place / "large", num_rows)
        meter = Meter(lake.spark)
        meter_gates(meter)
        lake.spark.sparkContext.setJobGroup("the night itself", "")
        began = time.perf_counter()
        nightly.run(lake, NIGHT)
        night_s = time.perf_counter() - began
        scored = lake.read(SCORES).where(f"business_date = '{NIGHT}'").count()
        print(json.dumps(show(meter, night_s, scored)))
        lake.spark.stop()


if __name__ == "__main__":
    typer.run(main)
