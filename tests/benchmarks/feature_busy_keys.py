"""Measure the cost of hot keys: the time of two workers, and the memory of one.

python tests/benchmarks/feature_cost.py --num-rows 1000000 --only skew    (or memory)
"""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from feature_rows import Bank, read_bank
from feature_timing import NUM_DAYS, all_rows, medians, replaced, session, write_and_read
from pyspark import cloudpickle

from feature_defs.catalogue import FEATURES, LOOKBACK_DAYS
from feature_defs.feature import MERCHANT
from feature_defs.point_in_time import entity_stream
from feature_defs.point_in_time.hot_keys import HotKeys
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from feature_defs.point_in_time.stream_plan import MICROS_PER_DAY, StreamPlan
from feature_defs.point_in_time.window_stream import WindowStream

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.cluster.standalone import running_cluster

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SKEWED_SHARE = 0.6
# So short that the last windows contain all rows of a bank.
SHORT_DAYS = 30
# Just below the number of rows from which a key is cut into slices.
WHOLE_KEY_ROWS = 1_000_000


@dataclass(frozen=True)
class MeasuredStream:
    """The real pass over a stream; at its end it writes the peak memory of its process in KiB."""

    plan: StreamPlan
    folder: str

    def __call__(self, batches: Iterable[tuple[pd.Series, ...]]) -> Iterator[pd.DataFrame]:
        yield from WindowStream(self.plan)(batches)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        Path(tempfile.mkdtemp(dir=self.folder), "peak").write_text(str(peak))


def skew(folder: Path, num_rows: int) -> dict[str, float]:
    """Compare a merchant with most rows to even keys, on two workers with one core each."""
    days, short_days = f"{NUM_DAYS} days", f"{SHORT_DAYS} days"
    evens = {
        days: Bank(num_rows, NUM_DAYS),
        short_days: Bank(num_rows, SHORT_DAYS),
        f"{short_days}, twice the rows": Bank(2 * num_rows, SHORT_DAYS),
    }
    banks = {}
    for name, even in evens.items():
        busy = round(SKEWED_SHARE * even.num_rows)
        banks[f"{name}: even keys"] = even
        banks[f"{name}: 60 % at one merchant"] = replace(even, busy_merchant_rows=busy)
    with running_cluster(folder / "cluster") as cluster, session(cluster.master) as spark:
        inputs = {name: write_and_read(spark, folder / name, bank) for name, bank in banks.items()}
        num_cut = [len(cut_merchants(rows)) for rows in inputs.values()]
        print(f"merchants cut into slices: {', '.join(map(str, num_cut))}")
        seconds = list(
            medians({name: all_rows(inputs[name], bank) for name, bank in banks.items()}).values()
        )
    long, short, cut = (busy / even for even, busy in zip(seconds[::2], seconds[1::2], strict=True))
    return {"skew_ratio": long, "short_skew_ratio": short, "cut_skew_ratio": cut}


def cut_merchants(inputs: FeatureInputs) -> Mapping[tuple[str, ...], tuple[int, ...]]:
    """Return the merchants whose events are cut, with their slices."""
    from pyspark.sql import functions as F

    events = inputs.transactions.withColumn("_t", F.unix_micros("event_time"))
    lookback_days = max(f.lookback_days for f in FEATURES.values() if f.entity == MERCHANT)
    return HotKeys.find(events, MERCHANT.keys, lookback_days * MICROS_PER_DAY).slices


def peak_kib(spark: SparkSession, folder: Path, bank: Bank, name: str) -> int:
    """Return the peak memory of the Python workers that compute a bank's features."""
    bank.write(spark, str(folder / name))
    peaks = folder / f"{name}-peaks"
    peaks.mkdir()
    with replaced(entity_stream, "WindowStream", lambda plan: MeasuredStream(plan, str(peaks))):
        all_rows(read_bank(spark, str(folder / name)), bank)()
    return max(int(file.read_text()) for file in peaks.glob("*/peak"))


def memory(folder: Path, num_rows: int) -> dict[str, float]:
    """Compare one card with few rows to one with many, each in new workers."""
    # Workers cannot import this file.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    few = Bank(num_rows // 20, NUM_DAYS, num_cards=1, num_merchants=1)
    whole = replace(few, num_rows=WHOLE_KEY_ROWS, num_days=LOOKBACK_DAYS + 1)
    peaks = []
    for bank in (few, replace(few, num_rows=5 * num_rows), whole):
        with session(reuse_workers=False) as spark:
            name = f"one-key-{bank.num_rows}"
            peaks.append(peak_kib(spark, folder, bank, name))
        print(f"one key of {bank.num_rows:>9,} rows: a worker's peak is {peaks[-1] / 1024:.0f} MiB")
    return {
        "memory_ratio": peaks[1] / peaks[0],
        "whole_key_memory_ratio": peaks[2] / peaks[0],
    }
