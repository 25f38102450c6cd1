"""What features cost: against the floor, against Spark's windows, with busy keys, over history.

All ratios are of medians of alternating runs in this process, on two cores; the last line is one
JSON object:

- `floor_ratio`: all features of all rows, over the same rows through the same shuffles and sorts
  with a function that computes nothing;
- `range_between_speedup`: Spark's `rangeBetween` over ours, with even keys over 90 days;
- `hot_key_speedup`: the same, where one card has 50,000 rows in a day, as one that is tried out by
  a machine; `spread_card_speedup`: where it has them in all of the days that a night reads, the
  lookback of its features; `hot_merchant_speedup`: where one merchant has so many in those days;
- `skew_ratio`: 60 % of the rows at one merchant, over even keys, on two one-core workers, over 90
  days; `cut_skew_ratio`: the same in 30 days, where that merchant has so many in its windows' reach
  that it is cut;
- `history_ratio`: one night in a lake of 360 days, over the same night in one of 60;
- `lookback_ratio`: one night, over the night's rows alone without what lies before them;
- `lookback_ratio_bound`: the same, if the whole days between the ends of windows cost nothing:
  what daily partial aggregates could reach at best, as only days with an end are read at all;
- `memory_ratio`: peak of a Python worker with one key of 5 M rows, over one of 50,000;
  `whole_key_memory_ratio`: the same with one of 500,000, about the largest that is not cut.

    python tests/benchmarks/feature_cost.py --num-rows 1000000
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import typer
from feature_lakes import fill, known_for
from feature_rows import FIRST, LABEL_DELAY_DAYS, Bank, by_range_between, knowledge_at
from pyspark import SparkContext

from feature_defs import point_in_time
from feature_defs.catalogue import FEATURES, LOOKBACK_DAYS
from feature_defs.feature import MERCHANT
from feature_defs.point_in_time import Knowledge, compile_features, entity_stream
from feature_defs.point_in_time.hot_keys import HotKeys
from feature_defs.point_in_time.stream_plan import MICROS_PER_DAY, StreamPlan
from feature_defs.point_in_time.window_stream import WindowStream

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))
from standalone import running_cluster

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.lake.delta_io import Lake

NUM_RUNS = 3
NUM_DAYS = 90
# What the features of one night are made from.
READ_DAYS = LOOKBACK_DAYS + 1
HOT_ROWS, HOT_DAYS = 50_000, 1
# As many as a key can have without being cut.
WHOLE_KEY_ROWS = 500_000
SKEWED_SHARE, CUT_DAYS = 0.6, 30
SHORT_DAYS, LONG_DAYS = 60, 360


@dataclass(frozen=True)
class PassThrough:
    """The floor: takes the same columns and gives back zeros for features."""

    plan: StreamPlan

    def __call__(self, batches: Iterable[tuple[pd.Series, ...]]) -> Iterator[pd.DataFrame]:
        for columns in batches:
            zeros = np.zeros(len(columns[0]))
            yield pd.DataFrame(
                {
                    f.name: zeros.astype(np.int64) if f.type == "bigint" else zeros
                    for f in self.plan.features
                },
                copy=False,
            )


@dataclass(frozen=True)
class Weighed:
    """The real pass, which tells the peak of its process (KiB) when it has ended."""

    plan: StreamPlan
    folder: str

    def __call__(self, batches: Iterable[tuple[pd.Series, ...]]) -> Iterator[pd.DataFrame]:
        yield from WindowStream(self.plan)(batches)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        Path(tempfile.mkdtemp(dir=self.folder), "peak").write_text(str(peak))


@contextmanager
def instead(module: Any, name: str, other: Any) -> Iterator[None]:
    """Compile features with another one of their parts."""
    usual = getattr(module, name)
    setattr(module, name, other)
    try:
        yield
    finally:
        setattr(module, name, usual)


class NoHotKeys:
    """The floor looks for no busy keys."""

    @staticmethod
    def find(events: DataFrame, keys: tuple[str, ...], reach: int) -> HotKeys:
        return HotKeys(keys, {})


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


def all_rows(known: Knowledge, bank: Bank) -> Callable[[], None]:
    """Features of all rows of a bank."""
    return lambda: run(compile_features(known, FIRST, bank.last, late_days=7))


def floor(known: Knowledge, bank: Bank) -> None:
    """The same shuffles and sorts, computing nothing."""
    with (
        instead(entity_stream, "WindowStream", PassThrough),
        instead(point_in_time, "HotKeys", NoHotKeys),
    ):
        all_rows(known, bank)()


def throughput(spark: SparkSession, place: Path, num_rows: int) -> dict[str, float]:
    """Floor, Spark's windows, hot keys."""
    even, read = Bank(num_rows, NUM_DAYS), Bank(num_rows, READ_DAYS)
    hot = {
        "a hot card": replace(read, busy_card_rows=HOT_ROWS, busy_card_days=HOT_DAYS),
        "a hot card, spread": replace(read, busy_card_rows=HOT_ROWS),
        "a hot merchant": replace(read, busy_merchant_rows=HOT_ROWS),
    }
    banks = {"even keys": even, **hot}
    known = {name: written(spark, place / name, bank) for name, bank in banks.items()}
    taken = medians(
        {
            "floor": lambda: floor(known["even keys"], even),
            **{name: all_rows(known[name], bank) for name, bank in banks.items()},
            "rangeBetween": lambda: run(by_range_between(known["even keys"])),
        }
    )
    # They take minutes, which no warm-up changes much.
    slow = {name: timed(lambda name=name: run(by_range_between(known[name]))) for name in hot}
    for name, seconds in slow.items():
        print(f"rangeBetween, {name:<26}{seconds:>8.2f} s")
    speedups = ("hot_key_speedup", "spread_card_speedup", "hot_merchant_speedup")
    return {
        "floor_ratio": taken["even keys"] / taken["floor"],
        "range_between_speedup": taken["rangeBetween"] / taken["even keys"],
        **{key: slow[name] / taken[name] for key, name in zip(speedups, hot, strict=True)},
    }


def skew(place: Path, num_rows: int) -> dict[str, float]:
    """A merchant with most rows, beside even keys, on two workers that have one core each."""
    even, short = Bank(num_rows, NUM_DAYS), Bank(num_rows, CUT_DAYS)
    busy = round(SKEWED_SHARE * num_rows)
    banks = {
        "two workers, even keys": even,
        "two workers, 60 % at one merchant": replace(even, busy_merchant_rows=busy),
        f"the same in {CUT_DAYS} days, even keys": short,
        f"the same in {CUT_DAYS} days, 60 %": replace(short, busy_merchant_rows=busy),
    }
    with running_cluster(place / "cluster") as cluster, session(cluster.master) as spark:
        known = {name: written(spark, place / name, bank) for name, bank in banks.items()}
        num_cut = [len(cut_merchants(of_bank)) for of_bank in known.values()]
        print(f"merchants that are cut: {', '.join(map(str, num_cut))}")
        taken = medians({name: all_rows(known[name], bank) for name, bank in banks.items()})
    even_keys, one_merchant, even_short, cut = taken.values()
    return {"skew_ratio": one_merchant / even_keys, "cut_skew_ratio": cut / even_short}


def cut_merchants(known: Knowledge) -> Mapping[tuple[str, ...], tuple[int, ...]]:
    """The merchants whose events are cut, with their slices."""
    from pyspark.sql import functions as F

    events = known.transactions.withColumn("_t", F.unix_micros("event_time"))
    reach = max(f.lookback_days for f in FEATURES.values() if f.entity == MERCHANT)
    return HotKeys.find(events, MERCHANT.keys, reach * MICROS_PER_DAY).slices


def written(spark: SparkSession, place: Path, bank: Bank) -> Knowledge:
    """A bank's rows, as features read them."""
    bank.write(spark, str(place))
    return knowledge_at(spark, str(place))


def long_bank(night_rows: int) -> Bank:
    """A bank of many days."""
    return Bank(night_rows * LONG_DAYS, LONG_DAYS)


def lake_of(spark: SparkSession, place: Path, bank: Bank, num_days: int) -> Lake:
    """A lake that holds so many days up to the same last one."""
    from pyspark.sql import functions as F

    from jobs.lake.delta_io import Lake
    from jobs.settings import load_settings

    lake = Lake(spark, load_settings(None, {"lake": str(place / f"lake-{num_days}")}))
    lake.create()
    known = knowledge_at(spark, str(place / "long"))
    days = F.col("business_date") > F.date_sub(F.lit(bank.last), num_days)
    kept = Knowledge(known.transactions.where(days), known.labels.where(days), known.policy)
    fill(lake, kept, num_files=8)
    return lake


def one_night(lake: Lake, day: date, known: Callable[[Knowledge], Knowledge]) -> None:
    """Features of a night, read as the job reads it."""
    read = known(known_for(lake, day, day))
    run(compile_features(read, day, day, lake.settings.late_days))


def nights(spark: SparkSession, place: Path, num_rows: int) -> dict[str, float]:
    """One night of a hundredth of the rows beside its history, and beside its own rows."""
    from pyspark.sql import functions as F

    bank = long_bank(num_rows // 100)
    bank.write(spark, str(place / "long"))
    long, short = (lake_of(spark, place, bank, days) for days in (LONG_DAYS, SHORT_DAYS))

    def whole(known: Knowledge) -> Knowledge:
        return known

    def alone(known: Knowledge) -> Knowledge:
        return only(known, [0])

    def ends_of_windows(known: Knowledge) -> Knowledge:
        windows = [feature.window for feature in FEATURES.values() if feature.window]
        ends = {days for w in windows for days in (w.delay_days, w.lookback_days)}
        return only(known, sorted({0, *ends}))

    def only(known: Knowledge, days_before: list[int]) -> Knowledge:
        days = [bank.last - timedelta(days=days) for days in days_before]
        judged = [day + timedelta(days=LABEL_DELAY_DAYS) for day in days]
        transactions = known.transactions.where(F.col("business_date").isin(days))
        labels = known.labels.where(F.col("business_date").isin(judged))
        return Knowledge(transactions, labels, known.policy)

    taken = medians(
        {
            f"a night, {LONG_DAYS} days in the lake": lambda: one_night(long, bank.last, whole),
            f"a night, {SHORT_DAYS} days in the lake": lambda: one_night(short, bank.last, whole),
            "the night's rows alone": lambda: one_night(short, bank.last, alone),
            "whole days for nothing": lambda: one_night(short, bank.last, ends_of_windows),
        }
    )
    in_long, in_short, by_itself, without_whole_days = taken.values()
    return {
        "history_ratio": in_long / in_short,
        "lookback_ratio": in_short / by_itself,
        "lookback_ratio_bound": without_whole_days / by_itself,
    }


def peak_kib(spark: SparkSession, place: Path, bank: Bank, name: str) -> int:
    """Peak of the Python workers that compute a bank's features."""
    bank.write(spark, str(place / name))
    peaks = place / f"{name}-peaks"
    peaks.mkdir()
    with instead(entity_stream, "WindowStream", lambda plan: Weighed(plan, str(peaks))):
        all_rows(knowledge_at(spark, str(place / name)), bank)()
    return max(int(file.read_text()) for file in peaks.glob("*/peak"))


def memory(place: Path, num_rows: int) -> dict[str, float]:
    """One card that has all rows, few or many; each in workers of their own."""
    few = Bank(num_rows // 20, NUM_DAYS, num_cards=1, num_merchants=1)
    whole = replace(few, num_rows=WHOLE_KEY_ROWS, num_days=READ_DAYS)
    peaks = []
    for bank in (few, replace(few, num_rows=5 * num_rows), whole):
        with session(reuse_workers=False) as spark:
            name = f"one-key-{bank.num_rows}"
            peaks.append(peak_kib(spark, place, bank, name))
        print(f"one key of {bank.num_rows:>9,} rows: a worker's peak is {peaks[-1] / 1024:.0f} MiB")
    return {
        "memory_ratio": peaks[1] / peaks[0],
        "whole_key_memory_ratio": peaks[2] / peaks[0],
    }


@contextmanager
def session(master: str = "local[2]", *, reuse_workers: bool = True) -> Iterator[SparkSession]:
    """Spark on two cores, as a command has it."""
    from jobs.session import open_session
    from jobs.settings import load_settings

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


PARTS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "throughput": in_a_session(throughput),
    "nights": in_a_session(nights),
    "skew": skew,
    "memory": memory,
}


def main(
    num_rows: Annotated[int, typer.Option("--num-rows", help="Rows of a bank.")] = 1_000_000,
    only: Annotated[str, typer.Option(help=f"One of: {', '.join(PARTS)}; else all.")] = "",
) -> None:
    """Run all of it, or a part, and print the ratios."""
    ratios: dict[str, float] = {}
    for name in [only] if only else PARTS:
        with tempfile.TemporaryDirectory() as folder:
            ratios |= PARTS[name](Path(folder), num_rows)
    print(json.dumps({name: round(ratio, 3) for name, ratio in ratios.items()}))


if __name__ == "__main__":
    typer.run(main)
