"""Splits hot keys (keys with very many events) into slices that are processed separately, exactly.

Both ends of a window of whole days have the transaction's time of day. A slice is therefore a part
of the day: it has a key's events of those hours on all days, and both ends of each of their
windows. Between two days of a slice, one row with sums, the gap, replaces the events of the other
hours. A slice has at most about `slice_events` events (unless one minute of the day has more).

The ends of a window of minutes or hours can be earlier in the day. So each slice also reads the
events of the minutes before it (`StreamPlan.overlap_minutes`), and only those are in two slices.
Integer sums are the same for any split.
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
    CORRECTED_WINDOW,
    LAST_EVENT,
    MICROS_PER_DAY,
    ROW,
    TIME,
    StreamPlan,
    max_column,
    min_column,
)

# A key with more events than this within its lookback is split. Below the limit one core takes
# seconds, and a worker holds some 140 MB at once. On few cores splitting would cost more, because
# the gaps read the key's events and their labels a second time.
HOT_EVENTS = 1 << 20
# Hot keys are found in a sample, in which a key at the limit has about this many events.
SAMPLED_EVENTS, SEED = 1 << 12, 7
# Small slices spread evenly over workers, but each pair of slices of a key adds one gap per day.
MIN_SLICE_EVENTS, NUM_SLICES = 1 << 14, 48
# At most this many keys (or parts of their history) are split. Splitting changes no value.
MAX_HOT_KEYS = 1000
MINUTES_PER_DAY = 1440
MICROS_PER_MINUTE = MICROS_PER_DAY // MINUTES_PER_DAY
# Columns by hot key: the first minute of each slice; by minute of the day, the slices that read it,
# its own slice first; by minute, the first minute of its cell, the smallest part of any gap.
FIRST_MINUTES, SLICES_OF_MINUTE = "_first_minutes", "_slices_of_minute"
CELL_OF_MINUTE = "_cell_of_minute"
# Column of the stream: whether a row is in its own slice.
IN_OWN_SLICE = "_in_own_slice"


@dataclass(frozen=True)
class HotKeys:
    """The first minute of each slice, by key; the first slice of a key starts at minute 0."""

    keys: tuple[str, ...]
    slices: Mapping[tuple[str, ...], tuple[int, ...]]

    @staticmethod
    def find(events: DataFrame, keys: tuple[str, ...], lookback_micros: int) -> HotKeys:
        """Find hot keys in a sample of the events, with one job; `events` has the keys and `_t`.

        A history longer than the lookback is divided into parts of that length, and the largest
        part counts. The sample may miss a hot key, or contain one that is not hot; the values are
        the same in any case.
        """
        share = min(1.0, SAMPLED_EVENTS / HOT_EVENTS)
        part = F.floor(F.col("_t") / lookback_micros).alias("part")
        minute = _minute_of_day(F.col("_t")).cast("int").alias("minute")
        sample = events.sample(share, SEED).groupBy(*keys, part, minute)
        # At most 1440 rows per key and part, however many events a key has.
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
        slices: dict[tuple[str, ...], tuple[int, ...]] = {}
        for *key, minutes in parts.select(*keys, "minutes").collect():
            # The largest part of a key comes first.
            if tuple(key) not in slices:
                histogram = {number: round(size / share) for number, size in minutes}
                slices[tuple(key)] = _split_day(histogram)
        return HotKeys(keys, {key: firsts for key, firsts in slices.items() if len(firsts) > 1})

    def split(
        self,
        events: DataFrame,
        events_without_features: Callable[[], DataFrame],
        stream_of: Callable[[DataFrame], DataFrame],
        plan: StreamPlan,
    ) -> DataFrame:
        """Return the stream of the events with a slice for each row, and the rows of the gaps.

        The gaps are computed from `events_without_features`: with `events`, Spark would compute the
        features of other entities a second time. It is called only if there is a hot key.
        """
        stream = stream_of(events)
        if not self.slices:
            return stream.withColumn(plan.slice, F.lit(0))
        table = self._slice_table(events.sparkSession, plan.overlap_minutes)
        hot = stream_of(events_without_features().where(self._may_be_hot()))
        gaps = self._gap_rows(hot, table, plan)
        return self._with_slice(stream, table, plan).unionByName(gaps, allowMissingColumns=True)

    def _may_be_hot(self) -> Column:
        """Return a cheap filter that drops nearly all rows of other keys."""
        by_column = zip(self.keys, zip(*self.slices, strict=True), strict=True)
        return reduce(and_, (F.col(key).isin(*set(values)) for key, values in by_column))

    def _with_slice(self, stream: DataFrame, table: DataFrame, plan: StreamPlan) -> DataFrame:
        """Add the slice of each row; all rows of a key that is not split have slice 0.

        A row that several slices read is repeated, and is an output row in its own slice only.
        """
        slices = F.broadcast(table.select(*self.keys, SLICES_OF_MINUTE))
        minute = _minute_of_day(F.col(TIME)).cast("int")
        joined = stream.join(slices, list(self.keys), "left")
        of_row = F.get(F.col(SLICES_OF_MINUTE), minute)
        if plan.overlap_minutes == 0:
            number = F.coalesce(F.get(of_row, F.lit(0)), F.lit(0))
            return joined.withColumn(plan.slice, number).drop(SLICES_OF_MINUTE)
        read_by = F.coalesce(of_row, F.array(F.lit(0)))
        repeated = joined.withColumns(
            {IN_OWN_SLICE: F.get(read_by, F.lit(0)), plan.slice: F.explode(read_by)}
        )
        in_own = F.col(IN_OWN_SLICE) == F.col(plan.slice)
        return repeated.withColumn(ROW, F.when(in_own, F.col(ROW))).drop(
            SLICES_OF_MINUTE, IN_OWN_SLICE
        )

    def _slice_table(self, spark: SparkSession, overlap: int) -> DataFrame:
        """Return by key what `FIRST_MINUTES`, `SLICES_OF_MINUTE` and `CELL_OF_MINUTE` describe."""
        names = [pa.array(column) for column in zip(*self.slices, strict=True)]
        firsts = [np.array(minutes, dtype=np.int32) for minutes in self.slices.values()]
        read_by = [slices_of_minutes(minutes, overlap) for minutes in self.slices.values()]
        cells = [_cell_of_minute(minutes, overlap) for minutes in self.slices.values()]
        lists = pa.list_(pa.int32())
        # Spark turns an Arrow table into a constant of the plan; for Python rows it would start a
        # job.
        return spark.createDataFrame(
            pa.table(
                [
                    *names,
                    pa.array(firsts),
                    pa.array(read_by, pa.list_(lists)),
                    pa.array(cells, lists),
                ],
                [*self.keys, FIRST_MINUTES, SLICES_OF_MINUTE, CELL_OF_MINUTE],
            )
        )

    def _gap_rows(self, hot: DataFrame, table: DataFrame, plan: StreamPlan) -> DataFrame:
        """Return the gaps: one row for all events between two days of a slice."""
        totals = [
            *(F.sum(summed.column).alias(summed.column) for summed in plan.sums),
            *(F.min(name).alias(name) for name in map(min_column, plan.min_measures)),
            *(
                F.max(name).alias(name)
                for name in (LAST_EVENT, *map(max_column, plan.max_measures))
            ),
        ]
        day = F.floor(F.col(TIME) / MICROS_PER_DAY).alias("_day")
        by_key = list(self.keys)
        cell = F.get(F.col(CELL_OF_MINUTE), _minute_of_day(F.col(TIME)).cast("int"))
        cells = (
            hot.join(F.broadcast(table.select(*self.keys, CELL_OF_MINUTE)), by_key)
            .groupBy(*self.keys, cell.alias("_cell"), CORRECTED_WINDOW, day)
            .agg(*totals)
        )
        firsts = F.broadcast(table.select(*self.keys, FIRST_MINUTES))
        end = F.coalesce(F.get(FIRST_MINUTES, F.col("_other") + 1), F.lit(MINUTES_PER_DAY))
        since_first_read = F.pmod(
            F.col("_cell") - F.col("_first") + plan.overlap_minutes, F.lit(MINUTES_PER_DAY)
        )
        num_read = F.col("_end") - F.col("_first") + plan.overlap_minutes
        # A gap has the cells that the other slice does not read itself.
        others = (
            cells.join(firsts, by_key)
            .select("*", F.posexplode(FIRST_MINUTES).alias("_other", "_first"))
            .withColumn("_end", end)
            .where(since_first_read >= num_read)
        )
        # Events that are earlier in the day than the other slice are in the gap that began the day
        # before.
        first_day = F.col("_day") - (F.col("_cell") < F.col("_first")).cast("int")
        time = first_day * MICROS_PER_DAY + F.col("_end").cast("bigint") * MICROS_PER_MINUTE
        return (
            others.withColumn(TIME, time)
            .groupBy(*self.keys, F.col("_other").alias(plan.slice), CORRECTED_WINDOW, TIME)
            .agg(*totals)
        )


def _minute_of_day(time: Column) -> Column:
    return F.floor(F.pmod(time, F.lit(MICROS_PER_DAY)) / MICROS_PER_MINUTE)


def slices_of_minutes(firsts: tuple[int, ...], overlap: int) -> list[list[int]]:
    """Return the slices that read each minute of the day, its own slice first.

    A slice also reads the `overlap` minutes before it, which may be in the evening before.

    >>> slices_of_minutes((0, 600), 10)[595], slices_of_minutes((0, 600), 10)[1435]
    ([0, 1], [1, 0])
    """
    own = np.searchsorted(firsts, np.arange(MINUTES_PER_DAY), side="right") - 1
    read_by = [[int(number)] for number in own]
    for number, (first, end) in enumerate(zip(firsts, (*firsts[1:], MINUTES_PER_DAY), strict=True)):
        for minute in range(first - min(overlap, MINUTES_PER_DAY - (end - first)), first):
            read_by[minute % MINUTES_PER_DAY].append(number)
    return read_by


def _cell_of_minute(firsts: tuple[int, ...], overlap: int) -> list[int]:
    """Return the first minute of the cell of each minute; each cell is read by the same slices."""
    starts = sorted({0, *firsts, *((first - overlap) % MINUTES_PER_DAY for first in firsts)})
    minutes = np.arange(MINUTES_PER_DAY)
    cells = np.array(starts)[np.searchsorted(starts, minutes, side="right") - 1]
    return [int(cell) for cell in cells]


def _split_day(histogram: Mapping[int, int]) -> tuple[int, ...]:
    return first_minutes(histogram, slice_events(sum(histogram.values())))


def slice_events(num_events: int) -> int:
    """Return how many events a slice may have, for a key with this many events.

    >>> slice_events(200_000), slice_events(1_000_000), slice_events(1_000_000_000)
    (16384, 20833, 1048576)
    """
    return min(max(num_events // NUM_SLICES, MIN_SLICE_EVENTS), HOT_EVENTS)


def first_minutes(histogram: Mapping[int, int], max_events: int) -> tuple[int, ...]:
    """Split a day into slices of at most `max_events`; return the first minute of each.

    `histogram` has the number of events by minute of the day.

    >>> first_minutes({0: 5, 60: 4, 61: 6, 900: 20}, 10)
    (0, 61, 900)
    """
    firsts, size = [0], 0
    for minute, count in sorted(histogram.items()):
        if size and size + count > max_events:
            firsts.append(minute)
            size = 0
        size += count
    return tuple(firsts)
