"""Keys with very many events, cut into slices that are worked on apart, exactly.

Every window's ends lie whole days before its transaction, so they have the transaction's time of
day. A slice is therefore a part of the day: it holds a key's events of those hours on all days,
and both ends of each of its windows. What happened in the other hours between two of its days is
one row, the gap, with the sums over what it stands for. No event is in two slices, slices hold
about `slice_events` at most (but for a key that does everything in one minute of the day), and sums
of whole numbers are the same however they are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import and_

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from feature_defs.point_in_time.stream_plan import (
    CORRECTS,
    LAST,
    MICROS_PER_DAY,
    TIME,
    StreamPlan,
    greatest,
    least,
)

# A key with more events inside a lookback is cut: for so many one core takes seconds, and a worker
# holds some 140 MB at once. Cutting costs more than that on few cores, as the gaps need the key's
# events and their labels once more.
HOT_EVENTS = 1 << 20
# It is noticed in a sample that has about so many of its events.
NOTICED_EVENTS, SEED = 1 << 12, 7
# Small slices spread evenly over workers; each two slices of a key cost a gap a day.
MIN_SLICE_EVENTS, NUM_SLICES = 1 << 14, 48
# Beyond these (parts of) keys none is cut. Which keys are cut changes no value.
MAX_HOT_KEYS = 1000
MINUTES_PER_DAY = 1440
MICROS_PER_MINUTE = MICROS_PER_DAY // MINUTES_PER_DAY
FIRSTS, SLICES = "_firsts", "_slices"


@dataclass(frozen=True)
class HotKeys:
    """The first minute of each slice, by key; a key's first slice begins at 0."""

    keys: tuple[str, ...]
    slices: Mapping[tuple[str, ...], tuple[int, ...]]

    @staticmethod
    def find(events: DataFrame, keys: tuple[str, ...], reach: int) -> HotKeys:
        """Look for busy keys in a sample of the events, which have the keys and `_t`.

        `reach` is how far windows look back, in microseconds: of longer histories the busiest part
        of that length counts. One job. What a key is taken for changes no value, so a sample will
        do.
        """
        share = min(1.0, NOTICED_EVENTS / HOT_EVENTS)
        part = F.floor(F.col("_t") / reach).alias("part")
        minute = _minute_of_day(F.col("_t")).cast("int").alias("minute")
        sample = events.sample(share, SEED).groupBy(*keys, part, minute)
        # A day has few minutes, whatever a key has of events.
        parts = (
            sample.agg(F.count("*").alias("size"))
            .groupBy(*keys, "part")
            .agg(
                F.sum("size").alias("size"),
                F.collect_list(F.struct("minute", "size")).alias("minutes"),
            )
            .where(F.col("size") > share * HOT_EVENTS)
            .orderBy(F.desc("size"), *keys, "part")
            .limit(MAX_HOT_KEYS)
        )
        cut: dict[tuple[str, ...], tuple[int, ...]] = {}
        for *key, minutes in parts.select(*keys, "minutes").collect():
            # The busiest part of a key comes first.
            if tuple(key) not in cut:
                cut[tuple(key)] = _cut({number: round(size / share) for number, size in minutes})
        return HotKeys(keys, {key: firsts for key, firsts in cut.items() if len(firsts) > 1})

    def cut(
        self,
        events: DataFrame,
        given: Callable[[], DataFrame],
        stream_of: Callable[[DataFrame], DataFrame],
        plan: StreamPlan,
    ) -> DataFrame:
        """The stream of events with its slices, and with the rows of the gaps.

        `given` makes the same events as they were given: what has been computed of `events` on the
        way here would be computed once more for the gaps. Without a busy key it is not called.
        """
        stream = stream_of(events)
        if not self.slices:
            return stream.withColumn(plan.slice, F.lit(0))
        table = self._table(events.sparkSession)
        hot = stream_of(given().where(self._may_be_cut()))
        gaps = self._gaps(self._placed(hot, table, plan), table, plan)
        return self._placed(stream, table, plan).unionByName(gaps, allowMissingColumns=True)

    def _may_be_cut(self) -> Column:
        """Of others nothing is needed twice, so nearly all are left out before anything costs."""
        by_column = zip(self.keys, zip(*self.slices, strict=True), strict=True)
        return reduce(and_, (F.col(key).isin(*set(values)) for key, values in by_column))

    def _placed(self, stream: DataFrame, table: DataFrame, plan: StreamPlan) -> DataFrame:
        """With the slice of each row; a key that is not cut has one."""
        slices = F.broadcast(table.select(*self.keys, SLICES))
        minute = _minute_of_day(F.col(TIME)).cast("int")
        placed = stream.join(slices, list(self.keys), "left").withColumn(
            plan.slice, F.coalesce(F.get(F.col(SLICES), minute), F.lit(0))
        )
        return placed.drop(SLICES)

    def _table(self, spark: SparkSession) -> DataFrame:
        """The first minute of each slice, and the slice of each minute, by key."""
        names = [pa.array(column) for column in zip(*self.slices, strict=True)]
        firsts = [np.array(minutes, dtype=np.int32) for minutes in self.slices.values()]
        minutes = np.arange(MINUTES_PER_DAY)
        slices = [np.searchsorted(first, minutes, side="right") - 1 for first in firsts]
        # From Arrow it is a plan's own constant; rows of Python would be a job.
        return spark.createDataFrame(
            pa.table(
                [*names, pa.array(firsts), pa.array(slices, pa.list_(pa.int32()))],
                [*self.keys, FIRSTS, SLICES],
            )
        )

    def _gaps(self, hot: DataFrame, table: DataFrame, plan: StreamPlan) -> DataFrame:
        """What lies between two days of a slice, as one row at the end of the slice's first day."""
        together = [
            *(F.sum(summed.column).alias(summed.column) for summed in plan.sums),
            *(F.min(name).alias(name) for name in map(least, plan.minima)),
            *(F.max(name).alias(name) for name in (LAST, *map(greatest, plan.maxima))),
        ]
        day = F.floor(F.col(TIME) / MICROS_PER_DAY).alias("_day")
        cells = hot.groupBy(*self.keys, plan.slice, CORRECTS, day).agg(*together)
        firsts = F.broadcast(table.select(*self.keys, FIRSTS))
        others = (
            cells.join(firsts, list(self.keys))
            .select("*", F.posexplode(FIRSTS).alias("_other", "_first"))
            .where(F.col("_other") != F.col(plan.slice))
        )
        # What comes earlier in the day than the other slice lies behind that one's day before.
        first_day = F.col("_day") - (F.col(plan.slice) < F.col("_other")).cast("int")
        ends = F.coalesce(F.get(FIRSTS, F.col("_other") + 1), F.lit(MINUTES_PER_DAY))
        time = first_day * MICROS_PER_DAY + ends.cast("bigint") * MICROS_PER_MINUTE
        return (
            others.withColumn(TIME, time)
            .groupBy(*self.keys, F.col("_other").alias(plan.slice), CORRECTS, TIME)
            .agg(*together)
        )


def _minute_of_day(time: Column) -> Column:
    return F.floor(F.pmod(time, F.lit(MICROS_PER_DAY)) / MICROS_PER_MINUTE)


def _cut(histogram: Mapping[int, int]) -> tuple[int, ...]:
    return first_minutes(histogram, slice_events(sum(histogram.values())))


def slice_events(num_events: int) -> int:
    """Events of a slice, for a key that has so many.

    >>> slice_events(200_000), slice_events(1_000_000), slice_events(1_000_000_000)
    (16384, 20833, 1048576)
    """
    return min(max(num_events // NUM_SLICES, MIN_SLICE_EVENTS), HOT_EVENTS)


def first_minutes(histogram: Mapping[int, int], most_events: int) -> tuple[int, ...]:
    """Cut a day where its slices would grow too large.

    >>> first_minutes({0: 5, 60: 4, 61: 6, 900: 20}, 10)
    (0, 61, 900)
    """
    firsts, size = [0], 0
    for minute, count in sorted(histogram.items()):
        if size and size + count > most_events:
            firsts.append(minute)
            size = 0
        size += count
    return tuple(firsts)
