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

# A key with more events is cut: so many are some megabytes that a worker holds at once.
HOT_EVENTS = 1 << 17
# It is noticed in a sample that has about so many of its events.
NOTICED_EVENTS, SEED = 1 << 12, 7
# Small slices spread evenly over workers; each two slices of a key cost a gap a day.
MIN_SLICE_EVENTS, NUM_SLICES = 1 << 14, 48
# Beyond these a key is not cut. Which keys are cut changes no value.
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
    def find(events: DataFrame, keys: tuple[str, ...]) -> HotKeys:
        """Look for busy keys in a sample of the events, which have the keys and `_t`.

        One or two jobs. What a key is taken for changes no value, so a sample will do.
        """
        share = min(1.0, NOTICED_EVENTS / HOT_EVENTS)
        sample = events.sample(share, SEED)
        counts = sample.groupBy(*keys).count().where(F.col("count") > share * HOT_EVENTS)
        busiest = counts.orderBy(F.desc("count"), *keys).limit(MAX_HOT_KEYS).select(*keys)
        hot = [tuple(row) for row in busiest.collect()]
        if not hot:
            return HotKeys(keys, {})
        names = events.sparkSession.createDataFrame(hot, busiest.schema)
        minute = _minute_of_day(F.col("_t")).cast("int").alias("minute")
        by_minute = sample.join(F.broadcast(names), list(keys)).groupBy(*keys, minute).count()
        histograms: dict[tuple[str, ...], dict[int, int]] = {}
        for *key, number, size in by_minute.collect():
            histograms.setdefault(tuple(key), {})[number] = round(size / share)
        cut = {key: _cut(counts) for key, counts in histograms.items()}
        return HotKeys(keys, {key: firsts for key, firsts in cut.items() if len(firsts) > 1})

    def cut(
        self, events: DataFrame, stream_of: Callable[[DataFrame], DataFrame], plan: StreamPlan
    ) -> DataFrame:
        """The stream of events with its slices, and with the rows of the gaps."""
        stream = stream_of(events)
        if not self.slices:
            return stream.withColumn(plan.slice, F.lit(0))
        table = self._table(events.sparkSession)
        placed = stream.join(F.broadcast(table), list(self.keys), "left").withColumn(
            plan.slice, F.coalesce(_slice_at(F.col(TIME)), F.lit(0))
        )
        # Of the others nothing is needed twice, so they are left out before anything costs.
        hot = events.join(F.broadcast(table), list(self.keys), "left_semi")
        placed_hot = stream_of(hot).join(F.broadcast(table), list(self.keys))
        gaps = self._gaps(placed_hot.withColumn(plan.slice, _slice_at(F.col(TIME))), plan)
        return placed.drop(FIRSTS, SLICES).unionByName(gaps, allowMissingColumns=True)

    def _table(self, spark: SparkSession) -> DataFrame:
        """The first minute of each slice, and the slice of each minute, by key."""
        columns = ", ".join([*(f"`{key}` string" for key in self.keys), f"{FIRSTS} array<int>"])
        firsts = [(*key, list(firsts)) for key, firsts in self.slices.items()]
        number = f"m -> size(filter({FIRSTS}, f -> f <= m)) - 1"
        slices = F.expr(f"transform(sequence(0, {MINUTES_PER_DAY - 1}), {number})")
        return spark.createDataFrame(firsts, columns).withColumn(SLICES, slices)

    def _gaps(self, hot: DataFrame, plan: StreamPlan) -> DataFrame:
        """What lies between two days of a slice, as one row at the end of the slice's first day."""
        together = [
            *(F.sum(summed.column).alias(summed.column) for summed in plan.sums),
            *(F.min(name).alias(name) for name in map(least, plan.minima)),
            *(F.max(name).alias(name) for name in (LAST, *map(greatest, plan.maxima))),
        ]
        day = F.floor(F.col(TIME) / MICROS_PER_DAY).alias("_day")
        cells = hot.groupBy(*self.keys, FIRSTS, plan.slice, CORRECTS, day).agg(*together)
        others = cells.select("*", F.posexplode(FIRSTS).alias("_other", "_first")).where(
            F.col("_other") != F.col(plan.slice)
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


def _slice_at(time: Column) -> Column:
    """Number of the slice that holds a time of day; null for a key that is not cut."""
    return F.get(F.col(SLICES), _minute_of_day(time).cast("int"))


def _minute_of_day(time: Column) -> Column:
    return F.floor(F.pmod(time, F.lit(MICROS_PER_DAY)) / MICROS_PER_MINUTE)


def _cut(histogram: Mapping[int, int]) -> tuple[int, ...]:
    return first_minutes(histogram, slice_events(sum(histogram.values())))


def slice_events(num_events: int) -> int:
    """Events of a slice, for a key that has so many.

    >>> slice_events(200_000), slice_events(1_000_000), slice_events(1_000_000_000)
    (16384, 20833, 131072)
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
