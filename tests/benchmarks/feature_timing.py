"""Run Spark and measure times, for all parts of `feature_cost.py`."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark_lake import open_lake
from feature_rows import FIRST, Bank, read_bank
from pyspark import SparkContext

from feature_defs.catalogue import FEATURES
from feature_defs.feature import Feature
from feature_defs.point_in_time.compiler import compile_features
from feature_defs.point_in_time.labels_as_of import FeatureInputs

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

NUM_RUNS = 3
NUM_DAYS = 90


@contextmanager
def session(master: str = "local[2]", *, reuse_workers: bool = True) -> Iterator[SparkSession]:
    """Start Spark on two cores with the settings of a command."""
    spark_settings = {
        "spark.python.worker.reuse": str(reuse_workers).lower(),
        # For a cluster: executors of one-core workers, with this Python.
        "spark.executor.memory": "1g",
        "spark.pyspark.python": sys.executable,
    }
    with open_lake("benchmark", master=master, spark=spark_settings) as lake:
        yield lake.spark


def in_a_session(
    part: Callable[[SparkSession, Path, int], dict[str, float]],
) -> Callable[[Path, int], dict[str, float]]:
    """Run a part of the benchmark in one Spark session."""

    def run_part(folder: Path, num_rows: int) -> dict[str, float]:
        with session() as spark:
            return part(spark, folder, num_rows)

    return run_part


@contextmanager
def replaced(module: Any, name: str, other: Any) -> Iterator[None]:
    """Replace an attribute of a module while the block runs."""
    original = getattr(module, name)
    setattr(module, name, other)
    try:
        yield
    finally:
        setattr(module, name, original)


def run(frame: DataFrame) -> None:
    """Compute all rows without storing them."""
    frame.write.format("noop").mode("overwrite").save()


def timed(once: Callable[[], None]) -> float:
    """Return the seconds of one run, after collecting the garbage of earlier ones."""
    context = SparkContext._active_spark_context
    assert context is not None and context._jvm is not None
    context._jvm.System.gc()
    started = time.perf_counter()
    once()
    return time.perf_counter() - started


def medians(runs: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the median seconds of each, run by turns; the first round is a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(NUM_RUNS + 1):
        for name, once in runs.items():
            taken = timed(once)
            if number:
                seconds[name].append(taken)
    result = {name: statistics.median(taken) for name, taken in seconds.items()}
    for name, median in result.items():
        print(f"{name:<40}{median:>8.2f} s   of {', '.join(f'{s:.2f}' for s in seconds[name])}")
    return result


def all_rows(
    inputs: FeatureInputs, bank: Bank, features: Mapping[str, Feature] = FEATURES
) -> Callable[[], None]:
    """Return a run that computes the features of all rows of a bank."""
    return lambda: run(compile_features(inputs, FIRST, bank.last, 7, features))


def write_and_read(spark: SparkSession, folder: Path, bank: Bank) -> FeatureInputs:
    """Write a bank's rows and read them as inputs of features."""
    bank.write(spark, str(folder))
    return read_bank(spark, str(folder))
