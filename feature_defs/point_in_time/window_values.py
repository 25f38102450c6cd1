"""Computes the window values of many rows at once, with numpy.

Shapes: `N` rows of the stream, `A` output rows among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from feature_defs.feature import LAST_FUNCTIONS, PLACE_FUNCTIONS, Feature, Function, Window
from feature_defs.point_in_time.earlier_events import (
    Floats,
    Ints,
    Positions,
    count_equal,
    divide,
    hour_share,
    kilometres,
    nan_unless,
    quantile_rank,
)
from feature_defs.point_in_time.stream_plan import (
    ABSENT,
    CORRECTED_WINDOW,
    EVENTS,
    LAST_EVENT,
    LATITUDE,
    LIMB_BITS,
    LONGITUDE,
    MICROS_PER_SECOND,
    NO_EVENT,
    NO_MAX,
    NO_MIN,
    NO_WINDOW,
    TIME,
    StreamPlan,
    Sum,
    event_values_of,
    max_column,
    min_column,
    sums_of,
)

# Counts are integers; an undefined value is NaN here and becomes null in Spark.
Values = Ints | Floats
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Rows:
    """Sorted rows of a stream; `group` numbers the groups from 0. All columns have shape [N]."""

    group: Ints
    columns: dict[str, Ints]
    # Sums of rows of group 0 that were dropped, by column and corrected window (`NO_WINDOW` for
    # events).
    dropped_sums: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """Return the number of rows, N."""
        return len(self.group)

    @property
    def time(self) -> Ints:
        """Return the time of each row, in microseconds since 1970."""
        return self.columns[TIME]

    @property
    def corrected_window(self) -> Ints:
        """Return the index of the label window that each row corrects, or `NO_WINDOW`."""
        no_window = np.full(self.num_rows, NO_WINDOW, dtype=np.int64)
        return self.columns.get(CORRECTED_WINDOW, no_window)


class WindowValues:
    """The window values of the output rows at the positions `at` [A]."""

    def __init__(self, rows: Rows, at: Positions, plan: StreamPlan) -> None:
        self.rows, self.at, self.plan = rows, at, plan
        offset = rows.time - rows.time.min()
        # Group and time as one number; no window can start in the previous group.
        self.moment: Ints = rows.group * (offset.max() + plan.lookback_micros + 1) + offset
        assert (self.moment[1:] >= self.moment[:-1]).all(), "the stream is not sorted"
        self.corrections = bool((rows.corrected_window != NO_WINDOW).any())
        self._positions: dict[int, Positions] = {}
        self._running: dict[tuple[str, int], Ints] = {}
        self._output_group = rows.group[at]
        self._group_first = np.searchsorted(rows.group, self._output_group, side="left")

    def value(self, feature: Feature) -> Values:
        """Return the values of a feature, [A]."""
        assert feature.window is not None and feature.function is not None
        if feature.function in PLACE_FUNCTIONS:
            return self._way_since_last_event(feature)
        if feature.function in LAST_FUNCTIONS:
            return self._since_last_event(feature)
        if event_values_of(feature) or feature.function is Function.DEVIATION:
            return self._against_earlier(feature, *self._earlier(feature.window))
        if feature.function in (Function.MIN, Function.MAX):
            return self._extreme(feature)
        if feature.function is Function.DISTINCT:
            entering, leaving = sums_of(feature)
            end, start = feature.window.delay_s, feature.window.lookback_s
            return self._sum_until(entering, end) - self._sum_until(leaving, start)
        sums = [self._sum(needed, feature.window) for needed in sums_of(feature)]
        return FORMULAS[feature.function](feature, sums)

    # -- window ends -----------------------------------------------------------------------------

    def _num_rows_until(self, seconds_before: int) -> Positions:
        """Return how many rows are not later than this many seconds before each output row, [A]."""
        if seconds_before == 0:
            # Events with the same time are ordered, and the output row is the last of its window.
            return self.at + 1
        if seconds_before not in self._positions:
            moments = self.moment[self.at] - seconds_before * MICROS_PER_SECOND
            self._positions[seconds_before] = np.searchsorted(self.moment, moments, side="right")
        return self._positions[seconds_before]

    def _earlier(self, window: Window) -> tuple[Positions, Positions]:
        """Return start and end, [A], of a window without the output row itself."""
        end = self.at if window.delay_s == 0 else self._num_rows_until(window.delay_s)
        return self._num_rows_until(window.lookback_s), end

    # -- sums ------------------------------------------------------------------------------------

    def _sum(self, summed: Sum, window: Window) -> Ints:
        """Return the sums over a window, [A]."""
        running = self._running_sum(summed.column, NO_WINDOW)
        total: Ints = (
            running[self._num_rows_until(window.delay_s)]
            - running[self._num_rows_until(window.lookback_s)]
        )
        if summed.quantity in ("labelled", "frauds"):
            index = self.plan.label_windows.index(window)
            if self.corrections or (summed.column, index) in self.rows.dropped_sums:
                total = total + self._sum_from_group_start(summed.column, index, self.at)
        return total

    def _sum_until(self, summed: Sum, seconds_before: int) -> Ints:
        """Return the group's sums up to this many seconds before each output row, [A]."""
        end = self._num_rows_until(seconds_before)
        return self._sum_from_group_start(summed.column, NO_WINDOW, end)

    def _sum_from_group_start(self, column: str, corrected_window: int, end: Positions) -> Ints:
        """Return the sums from the group's start to `end`, dropped rows included, [A]."""
        running = self._running_sum(column, corrected_window)
        dropped = self.rows.dropped_sums.get((column, corrected_window), 0)
        kept: Ints = running[end] - running[self._group_first]
        carried: Ints = np.where(self._output_group == 0, dropped, 0)
        return kept + carried

    def _running_sum(self, column: str, corrected_window: int) -> Ints:
        """Return the sum of the rows before each row, and as last value the sum of all rows, [N +
        1].

        They cover the events (`NO_WINDOW`), or the corrections of one label window.
        """
        if (column, corrected_window) not in self._running:
            values = self.rows.columns[column]
            if self.corrections or corrected_window != NO_WINDOW:
                values = np.where(self.rows.corrected_window == corrected_window, values, 0)
            self._running[column, corrected_window] = np.concatenate(
                [np.zeros(1, dtype=np.int64), np.cumsum(values)]
            )
        return self._running[column, corrected_window]

    # -- earlier events --------------------------------------------------------------------------

    def _against_earlier(self, feature: Feature, start: Positions, end: Positions) -> Floats:
        """Return how an output row compares with its earlier events, [A]."""
        if feature.function is Function.DEVIATION:
            return self._deviation(feature, start, end)
        (value,) = event_values_of(feature)
        values = self.rows.columns[value.column]
        if feature.function is Function.SAME_SHARE:
            running = self._running_sum(EVENTS.column, NO_WINDOW)
            share = divide(count_equal(values, self.at, start, end), running[end] - running[start])
            return nan_unless(values[self.at] != ABSENT, share)
        compare = {Function.QUANTILE_RANK: quantile_rank, Function.HOUR_SHARE: hour_share}
        assert feature.function is not None
        return compare[feature.function](values, self.at, start, end)

    def _deviation(self, feature: Feature, start: Positions, end: Positions) -> Floats:
        """Return `(own - mean) / standard deviation`, computed in integers up to the division."""
        needed = sums_of(feature)
        running = [self._running_sum(summed.column, NO_WINDOW) for summed in needed]
        sums = [column[end] - column[start] for column in running]
        number, total = (column.astype(object) for column in sums[:2])
        present, own = (self.rows.columns[summed.column][self.at] for summed in needed[:2])
        variance = _variance(sums)
        defined = (variance > 0) & (present > 0)
        scaled = np.where(defined, sums[0], 1) * np.sqrt(np.where(defined, variance, 1))
        distance = (number * own.astype(object) - total).astype(np.float64)
        return nan_unless(defined, distance / scaled)

    def _way_since_last_event(self, feature: Feature) -> Floats:
        """Return the distance from the event before, in km, or the speed in km/h, [A]."""
        last = self.rows.columns[LAST_EVENT]
        events = np.where(last == NO_EVENT, -1, np.arange(self.rows.num_rows))
        # Without an earlier event in the window, the time since it is NaN.
        seconds = self._since_last_event(feature)
        before = np.maximum.accumulate(events)[np.maximum(self.at - 1, 0)]
        latitude, longitude = (self.rows.columns[v.column] for v in (LATITUDE, LONGITUDE))
        way = kilometres(latitude[self.at], longitude[self.at], latitude[before], longitude[before])
        way = nan_unless(~np.isnan(seconds), way)
        if feature.function is Function.KILOMETRES_SINCE_LAST:
            return way
        return divide(way * SECONDS_PER_HOUR, seconds)

    # -- last event, minimum and maximum ---------------------------------------------------------

    def _since_last_event(self, feature: Feature) -> Floats:
        assert feature.window is not None
        last = self.rows.columns[LAST_EVENT]
        moments = np.where(last == NO_EVENT, NO_EVENT, self.moment + (last - self.rows.time))
        # Events are sorted by time, so the latest event before a row is the running maximum.
        before = np.maximum.accumulate(moments)
        has_previous = self.at > 0
        gap = self.moment[self.at] - np.where(has_previous, before[self.at - 1], NO_EVENT)
        inside = has_previous & (gap < feature.window.length_s * MICROS_PER_SECOND)
        if feature.function is Function.FIRST_TIME:
            first: Floats = (~inside).astype(np.float64)
            return first
        return nan_unless(inside, gap.astype(np.float64) / MICROS_PER_SECOND)

    def _extreme(self, feature: Feature) -> Floats:
        assert feature.window is not None and feature.measure is not None
        start, end = (
            self._num_rows_until(feature.window.lookback_s),
            self._num_rows_until(feature.window.delay_s),
        )
        if feature.function is Function.MIN:
            column = self.rows.columns[min_column(feature.measure)]
            extreme = -_range_max(-column, start, end, -NO_MIN)
            empty = extreme == NO_MIN
        else:
            column = self.rows.columns[max_column(feature.measure)]
            extreme = _range_max(column, start, end, NO_MAX)
            empty = extreme == NO_MAX
        return nan_unless(~empty, extreme.astype(np.float64) / 10**feature.scale)


def _range_max(values: Ints, start: Positions, end: Positions, of_empty: int) -> Ints:
    """Return the maximum of `values[start:end]` for each pair, [A].

    It is the maximum of two overlapping ranges whose length is a power of two (a sparse table).
    """
    maxima = np.full(len(start), of_empty, dtype=np.int64)
    level = np.frexp(end - start)[1] - 1
    table = values
    for power in range(int(level.max(initial=-1)) + 1):
        at_level = level == power
        second = end[at_level] - (1 << power)
        maxima[at_level] = np.maximum(table[start[at_level]], table[second])
        table = np.maximum(table[: -(1 << power)], table[1 << power :])
    return maxima


# -- formulas ---------------------------------------------------------------------------------


def _count(feature: Feature, sums: list[Ints]) -> Ints:
    return sums[0]


def _total(feature: Feature, sums: list[Ints]) -> Floats:
    total: Floats = sums[0].astype(np.float64) / 10**feature.scale
    return total


def _mean(feature: Feature, sums: list[Ints]) -> Floats:
    return _divide(feature, sums[1], sums[0], 10**feature.scale)


def _rate(feature: Feature, sums: list[Ints]) -> Floats:
    return _divide(feature, sums[1], sums[0], 1)


def _divide(feature: Feature, total: Ints, number: Ints, scale: int) -> Floats:
    empty = number == 0
    value: Floats = total.astype(np.float64) / np.where(empty, 1, number) / scale
    return np.where(empty, np.nan if feature.empty is None else feature.empty, value)


def _mean_gap(feature: Feature, sums: list[Ints]) -> Floats:
    assert feature.window is not None
    empty = sums[0] == 0
    return nan_unless(~empty, float(feature.window.length_s) / np.where(empty, 1, sums[0]))


def _standard_deviation(feature: Feature, sums: list[Ints]) -> Floats:
    """Compute in integers up to the last division.

    With floats, no digit would be correct when amounts are nearly equal.
    """
    deviation: Floats = np.sqrt(_variance(sums)) / 10**feature.scale
    return deviation


def _variance(sums: list[Ints]) -> Floats:
    """Return the sample variance in squared integer units, NaN below two events.

    `sums` are the number of events, their total, and the parts of their squares.
    """
    number, total, *parts = (column.astype(object) for column in sums)
    squares = sum(part << power * LIMB_BITS for power, part in enumerate(parts))
    few = sums[0] < 2
    pairs = np.where(few, 1, number * (number - 1))
    variance = np.where(few, 0, number * squares - total * total) / pairs
    return nan_unless(~few, variance.astype(np.float64))


FORMULAS: dict[Function, Callable[[Feature, list[Ints]], Values]] = {
    Function.COUNT: _count,
    Function.SUM: _total,
    Function.MEAN: _mean,
    Function.SHARE: _rate,
    Function.STD: _standard_deviation,
    Function.FRAUD_RATE: _rate,
    Function.FRAUD_COUNT: _count,
    Function.LABEL_COUNT: _count,
    Function.SECONDS_BETWEEN: _mean_gap,
}
