"""Measure the cost of a night's gates: Spark jobs and seconds, as a share of the whole night.

A small bank trains a model. Weeks later, one night of about a million rows is made of eight days of
a larger bank; a card is a different card on each of these days. The night's jobs run unchanged,
with a Spark job group around all work that serves a gate: counting the rows of the source and of
the staged tables, and checking the expectations.

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
from benchmark_lake import open_lake

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

SMALL_CARDS, SMALL_DAYS, TRAIN_DAYS = 60, 45, 21
FIRST = date(2024, 1, 1)
# So late that the small bank's nights are outside all lookbacks.
NIGHT = FIRST + timedelta(days=130)
LARGE_DAYS = 8
PAYMENTS_PER_CARD_AND_DAY = 1.9


@dataclass
class Cost:
    """Seconds and Spark jobs."""

    seconds: float = 0.0
    num_jobs: int = 0


@dataclass
class Meter:
    """Measure calls in a Spark job group each; all other jobs belong to the night itself."""

    spark: SparkSession
    costs: dict[str, Cost] = field(default_factory=dict)
    _inside: bool = False
    _number: int = 0

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Add the cost of the block to `name`; a nested block is counted once."""
        if self._inside:
            yield
            return
        self._number += 1
        group = f"{name} {self._number}"
        self._inside = True
        self.spark.sparkContext.setJobGroup(group, name)
        started = time.perf_counter()
        try:
            yield
        finally:
            cost = self.costs.setdefault(name, Cost())
            cost.seconds += time.perf_counter() - started
            cost.num_jobs += len(self._jobs(group))
            self._inside = False
            self.spark.sparkContext.setJobGroup("the night itself", "")

    def _jobs(self, group: str) -> Any:
        return self.spark.sparkContext.statusTracker().getJobIdsForGroup(group)

    def num_other_jobs(self) -> int:
        """Return the number of Spark jobs outside all gates."""
        return len(self._jobs("the night itself"))

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its cost is added to `name`."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self.measured(name):
                return function(*arguments, **named)

        return call


def meter_gates(meter: Meter) -> None:
    """Wrap the functions that serve a gate only, in the modules of the jobs that call them."""
    from jobs import ingest, monitor
    from jobs.lake.delta_io import Lake
    from jobs.quality.staged_rows import StagedSuite
    from jobs.quality.suites import scores, transactions

    for name in ("_counted", "count_nights", "_gate"):
        setattr(ingest, name, meter.around(transactions.GATE, getattr(ingest, name)))
    run_checks, staged_types = StagedSuite.run_checks, Lake.staged_types

    def run_staged_checks(suite: StagedSuite, *arguments: Any) -> Any:
        return meter.around(suite.gate, run_checks)(suite, *arguments)

    StagedSuite.run_checks = run_staged_checks  # type: ignore[method-assign]
    Lake.staged_types = meter.around(scores.SUITE.gate, staged_types)  # type: ignore[method-assign]
    monitor.run_checks = meter.around("monitor, its gate", monitor.run_checks)


def make_small_bank(lake: Lake, folder: Path) -> None:
    """Fill a lake with 45 nights of 60 cards, and promote a model."""
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

    simulate(lake.spark, SimulationPlan(str(folder), SMALL_CARDS, SMALL_DAYS, 5, FIRST))
    dates = Dates(FIRST, FIRST + timedelta(days=SMALL_DAYS - 1))
    with lease_nights(lake, dates) as night:
        ingest.run(night, Delivery(str(folder), "parquet", load_mapping("simulated")))
        features.run(night)
    config = recipe("lstm_autoencoder")
    quick = replace(config.optimisation, epochs=1, batch_size=16)
    config = replace(config, train_days=TRAIN_DAYS, optimisation=quick)
    as_of = FIRST + timedelta(days=SMALL_DAYS - 15)
    version = train.run(lake, TrainingPlan(as_of, "lstm_autoencoder", config, num_workers=2))
    open_registry(lake).set_alias(CHAMPION, version)


def make_large_delivery(spark: SparkSession, folder: Path, num_rows: int) -> None:
    """Write one delivery of about `num_rows` transactions and as many labels."""
    from pyspark.sql import functions as F

    from jobs.simulate import simulate
    from jobs.simulation.plan import SimulationPlan

    bank = folder / "eight-days"
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
        rows.repartition(4).write.partitionBy("business_date").parquet(str(folder / name))
    (folder / "_complete").mkdir()
    (folder / "_complete" / str(NIGHT)).touch()
    shutil.rmtree(bank)


def show(meter: Meter, night_s: float, num_rows: int) -> dict[str, float | int]:
    """Print the table; return the values of the last line."""
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
    """Build a lake, run one night, and print the cost of the gates."""
    from jobs import nightly
    from jobs.lake.tables import SCORES

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        delivery = {
            "source": str(folder / "large"),
            "source_format": "parquet",
            "mapping": "simulated",
        }
        with open_lake(str(folder / "lake"), **delivery) as lake:
            lake.create()
            make_small_bank(lake, folder / "small")
            make_large_delivery(lake.spark, folder / "large", num_rows)
            meter = Meter(lake.spark)
            meter_gates(meter)
            lake.spark.sparkContext.setJobGroup("the night itself", "")
            started = time.perf_counter()
            nightly.run(lake, NIGHT)
            night_s = time.perf_counter() - started
            num_scored = lake.read(SCORES).where(f"business_date = '{NIGHT}'").count()
            print(json.dumps(show(meter, night_s, num_scored)))


if __name__ == "__main__":
    typer.run(main)
