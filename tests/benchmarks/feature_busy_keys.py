"""What a key with very many rows costs: the time of two workers, and the memory of one."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from feature_rows import Bank, knowledge_at
from feature_timing import NUM_DAYS, all_rows, instead, medians, session, written
from pyspark import cloudpickle

from feature_defs.catalogue import FEATURES, LOOKBACK_DAYS
from feature_defs.feature import MERCHANT
from feature_defs.point_in_time import entity_stream
from feature_defs.point_in_time.hot_keys import HotKeys
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from feature_defs.point_in_time.stream_plan import MICROS_PER_DAY, StreamPlan
from feature_defs.point_in_time.window_stream import WindowStream

sys.path.insert(0, str(Path(__file__).parents[1] / "cluster"))
from standalone import running_cluster

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SKEWED_SHARE = 0.6
# So short that all rows of a bank lie in the reach of its last windows.
SHORT_DAYS = 30
# Not quite as many as a key can have without being cut.
WHOLE_KEY_ROWS = 1_000_000


@dataclass(frozen=True)
class Weighed:
    """The real pass, which tells the peak of its process (KiB) when it has ended."""

    plan: StreamPlan
    folder: str

    def __call__(self, batches: Iterable[tuple[pd.Series, ...]]) -> Iterator[pd.DataFrame]:
        yield from WindowStream(self.plan)(batches)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        Path(tempfile.mkdtemp(dir=self.folder), "peak").write_text(str(peak))


def skew(place: Path, num_rows: int) -> dict[str, float]:
    """A merchant with most rows, beside even keys, on two workers that have one core each."""
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
    with running_cluster(place / "cluster") as cluster, session(cluster.master) as spark:
        known = {name: written(spark, place / name, bank) for name, bank in banks.items()}
        num_cut = [len(cut_merchants(of_bank)) for of_bank in known.values()]
        print(f"merchants that are cut: {', '.join(map(str, num_cut))}")
        taken = list(
            medians({name: all_rows(known[name], bank) for name, bank in banks.items()}).values()
        )
    long, short, cut = (busy / even for even, busy in zip(taken[::2], taken[1::2], strict=True))
    return {"skew_ratio": long, "short_skew_ratio": short, "cut_skew_ratio": cut}


def cut_merchants(known: FeatureInputs) -> Mapping[tuple[str, ...], tuple[int, ...]]:
    """The merchants whose events are cut, with their slices."""
    from pyspark.sql import functions as F

    events = known.transactions.withColumn("_t", F.unix_micros("event_time"))
    reach = max(f.lookback_days for f in FEATURES.values() if f.entity == MERCHANT)
    return HotKeys.find(events, MERCHANT.keys, reach * MICROS_PER_DAY).slices


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
    # Workers do not find this file.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    few = Bank(num_rows // 20, NUM_DAYS, num_cards=1, num_merchants=1)
    whole = replace(few, num_rows=WHOLE_KEY_ROWS, num_days=LOOKBACK_DAYS + 1)
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
