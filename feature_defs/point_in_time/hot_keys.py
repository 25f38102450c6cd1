"""Keys with very many events, cut into slices that are worked on apart, exactly.

Every window's ends lie whole days before its transaction, so they have the transaction's time of
day. A slice is therefore a part of the day: it holds a key's events of those hours on all days,
and both ends of each of its windows. What happened in the other hours between two of its days is
one row, the gap, with the sums over what it stands for. No event is in two slices, slices grow no
larger than `SLICE_EVENTS` (but for a key that does everything in one minute of the day), and
sums of whole numbers are the same however they are cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_defs.point_in_time.window_stream import CORRECTS, LAST, MICROS_PER_DAY, TIME

SLICE = "_slice"
# A slice's events that a worker may have to hold at once: some megabytes.
SLICE_EVENTS = 1 << 17
# Beyond these a key is not cut. Which keys are cut changes no value.
MAX_HOT_KEYS = 1000
MINUTES_PER_DAY = 1440
MICROS_PER_MINUTE = MICROS_PER_DAY // MINUTES_PER_DAY


@dataclass(frozen=True)
class HotKeys:
    """The first minute of each slice, by key; the first slice begins at 0."""

    key: str
    slices: Mapping[str, tuple[int, ...]]

    @staticmethod
    def find(events: DataFrame, key: str) -> HotKeys:
        """Look at how many events keys have (`events` with the key and `_t`): one or two jobs."""
        counts = events.groupBy(key).count().where(F.col("count") > SLICE_EVENTS)
        hot = [
            row[key] for row in counts.orderBy(F.desc("count"), key).limit(MAX_HOT_KEYS).collect()
        ]
        if not hot:
            return HotKeys(key, {})
        minute = F.floor(F.pmod(F.col("_t"), F.lit(MICROS_PER_DAY)) / MICROS_PER_MINUTE)
        by_minute = (
            events.where(F.col(key).isin(hot))
            .groupBy(key, minute.cast("int").alias("minute"))
            .count()
            .collect()
        )
        histograms: dict[str, dict[int, int]] = {name: {} for name in hot}
        for row in by_minute:
            histograms[row[key]][row["minute"]] = row["count"]
        cut = {
            name: _first_minutes(histogram, SLICE_EVENTS) for name, histogram in histograms.items()
        }
        return HotKeys(key, {name: firsts for name, firsts in cut.items() if len(firsts) > 1})

    def cut(self, stream: DataFrame, sums: tuple[str, ...]) -> DataFrame:
        """The stream with `_slice`, and with the rows of the gaps."""
        if not self.slices:
            return stream.withColumn(SLICE, F.lit(0))
        table = stream.sparkSession.createDataFrame(
            [(key, list(firsts)) for key, firsts in self.slices.items()],
            f"{self.key} string, _firsts array<int>",
        )
        placed = stream.join(F.broadcast(table), self.key, "left").withColumn(
            SLICE, F.when(F.col("_firsts").isNull(), 0).otherwise(_slice_of(F.col("_firsts")))
        )
        gaps = self._gaps(placed.where(F.col("_firsts").isNotNull()), sums)
        return placed.drop("_firsts").unionByName(gaps, allowMissingColumns=True)

    def _gaps(self, hot: DataFrame, sums: tuple[str, ...]) -> DataFrame:
        """What lies between two days of a slice, summed, at the end of the slice's earlier day."""
        totals = [F.sum(name).alias(name) for name in sums] + [F.max(LAST).alias(LAST)]
        day = F.floor(F.col(TIME) / MICROS_PER_DAY)
        cells = hot.groupBy(self.key, "_firsts", SLICE, CORRECTS, day.alias("_day")).agg(*totals)
        others = cells.select("*", F.posexplode("_firsts").alias("_other", "_first")).where(
            F.col("_other") != F.col(SLICE)
        )
        # What comes later in the day than the other slice lies behind that one's same day.
        earlier_day = F.col("_day") - (F.col(SLICE) < F.col("_other")).cast("int")
        ends = F.coalesce(F.get("_firsts", F.col("_other") + 1), F.lit(MINUTES_PER_DAY))
        time = earlier_day * MICROS_PER_DAY + ends.cast("bigint") * MICROS_PER_MINUTE
        return (
            others.withColumn(TIME, time)
            .groupBy(self.key, F.col("_other").alias(SLICE), CORRECTS, TIME)
            .agg(*totals)
        )


def _slice_of(firsts: Column) -> Column:
    """Number of the slice that holds a row's time of day."""
    since_midnight = F.pmod(F.col(TIME), F.lit(MICROS_PER_DAY))
    begun = F.filter(
        firsts, lambda first: first.cast("bigint") * MICROS_PER_MINUTE <= since_midnight
    )
    return F.size(begun) - 1


def _first_minutes(histogram: Mapping[int, int], slice_events: int) -> tuple[int, ...]:
    """Cut a day where its slices would grow too large.

    >>> _first_minutes({0: 5, 60: 4, 61: 6, 900: 20}, 10)
    (0, 61, 900)
    """
    firsts, size = [0], 0
    for minute, count in sorted(histogram.items()):
        if size and size + count > slice_events:
            firsts.append(minute)
            size = 0
        size += count
    return tuple(firsts)
