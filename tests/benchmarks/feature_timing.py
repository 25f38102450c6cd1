"""How the parts of `feature_cost.py` run Spark, and how they take time."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_rows import FIRST, Bank, knowledge_at
from pyspark import SparkContext

from feature_defs.point_in_time.compiler import compile_features
from feature_defs.point_in_time.labels_as_of import FeatureInputs

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NUM_RUNS = 3
NUM_DAYS = 90


@contextmanager
def session(master: str = "local[2]", *, reuse_workers: bool = True) -> Iterator[SparkSession]:
    """Spark on two cores, as a command has it."""
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session

    spark_settings = {
        "spark.python.worker.reuse": str(reuse_workers).lower(),
        # For a cluster: each worker lends its one core, and reads nothing but the files.
        "spark.executor.memory": "1g",
        "spark.pyspark.python": sys.executable,
    }
    named = {"lake": "benchmark", "master": master, "spark": spark_settings}
    spark = open_session(load_settings(None, named))
    try:
        yield spark
    finally:
        spark.stop()


def in_a_session(
    part: Callable[[SparkSession, Path, int], dict[str, float]],
) -> Callable[[Path, int], dict[str, float]]:
    """A part that one session of Spark is enough for."""

    def run_part(place: Path, num_rows: int) -> dict[str, float]:
        with session() as spark:
            return part(spark, place, num_rows)

    return run_part


@contextmanager
def instead(module: Any, name: str, other: Any) -> Iterator[None]:
    """Compile features with another one of their parts."""
    usual = getattr(module, name)
    setattr(module, name, other)
    try:
        yield
    finally:
        setattr(module, name, usual)


def run(frame: DataFrame) -> None:
    """Compute all rows and keep none."""
    frame.write.format("noop").mode("overwrite").save()


def timed(once: Callable[[], None]) -> float:
    """Seconds of one run, which does not pay for what an earlier one has left behind."""
    context = SparkContext._active_spark_context
    assert context is not None and context._jvm is not None
    context._jvm.System.gc()
    began = time.perf_counter()
    once()
    return time.perf_counter() - began


def medians(runs: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median seconds of each, in alternation; a first round warms up and does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(NUM_RUNS + 1):
        for name, once in runs.items():
            taken = timed(once)
            if number:
                seconds[name].append(taken)
    found = {name: statistics.median(taken) for name, taken in seconds.items()}
    for name, median in found.items():
        print(f"{name:<40}{median:>8.2f} s   of {', '.join(f'{s:.2f}' for s in seconds[name])}")
    return found


def all_rows(known: FeatureInputs, bank: Bank) -> Callable[[], None]:
    """Features of all rows of a bank."""
    return lambda: run(compile_features(known, FIRST, bank.last, late_days=7))


def written(spark: SparkSession, place: Path, bank: Bank) -> FeatureInputs:
    """A bank's rows, as features read them."""
    bank.write(spark, str(place))
    return knowledge_at(spark, str(place))
