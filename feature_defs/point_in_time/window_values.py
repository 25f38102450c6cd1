"""The windows of some rows among others, for all of them at once.

Shapes: `N` rows, `A` asked rows among them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from feature_defs.feature import LAST_FUNCTIONS, Feature, Function, Window
from feature_defs.point_in_time.stream_plan import (
    CORRECTS,
    LAST,
    LIMB_BITS,
    MICROS_PER_DAY,
    MICROS_PER_SECOND,
    MINOR_UNITS,
    NO_EVENT,
    NO_GREATEST,
    NO_LEAST,
    NO_WINDOW,
    TIME,
    StreamPlan,
    Sum,
    greatest,
    least,
    sums_of,
)

Whole = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
# Counts are whole; what a definition leaves undefined is NaN here, and a null in Spark.
Values = Whole | Numbers
Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Rows:
    """Rows in order; `group` counts groups from 0. All columns are [N]."""

    group: Whole
    columns: dict[str, Whole]
    # Sums of the rows of group 0 that are not kept any more: by column, and by what they corrected
    # (events are under NO_WINDOW).
    settled: dict[tuple[str, int], int] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.group)

    @property
    def time(self) -> Whole:
        """Microseconds since 1970."""
        return self.columns[TIME]

    @property
    def corrects(self) -> Whole:
        """Place of the window that a late label corrects, or `NO_WINDOW`."""
        nothing = np.full(self.num_rows, NO_WINDOW, dtype=np.int64)
        return self.columns.get(CORRECTS, nothing)


class Windows:
    """The windows of the asked rows `at` [A]."""

    def __init__(self, rows: Rows, at: Places, plan: StreamPlan) -> None:
        self.rows, self.at, self.plan = rows, at, plan
        offset = rows.time - rows.time.min()
        # Group and time as one number; a window's start never reaches into the group before.
        self.moment: Whole = rows.group * (offset.max() + plan.reach + 1) + offset
        assert (self.moment[1:] >= self.moment[:-1]).all(), "the stream is not in order"
        self.corrections = bool((rows.corrects != NO_WINDOW).any())
        self._ends: dict[int, Places] = {}
        self._running: dict[tuple[str, int], Whole] = {}
        self._asked_group = rows.group[at]
        self._begins = np.searchsorted(rows.group, self._asked_group, side="left")

    def value(self, feature: Feature) -> Values:
        """A feature's values, [A]."""
        assert feature.window is not None and feature.function is not None
        if feature.function in LAST_FUNCTIONS:
            return self._since_last(feature)
        if feature.function in (Function.MIN, Function.MAX):
            return self._extreme(feature)
        if feature.function is Function.DISTINCT:
            begun, ended = sums_of(feature)
            last, first = feature.window.delay_days, feature.window.lookback_days
            return self._since_start(begun, last) - self._since_start(ended, first)
        sums = [self._sum(needed, feature.window) for needed in sums_of(feature)]
        return FORMULAS[feature.function](feature, sums)

    # -- ends ------------------------------------------------------------------------------------

    def _end(self, days_before: int) -> Places:
        """How many rows lie at or before the moment so many days before each asked row, [A]."""
        if days_before == 0:
            # Events of one instant are in order, and the asked one is the last of its window.
            return self.at + 1
        if days_before not in self._ends:
            moments = self.moment[self.at] - days_before * MICROS_PER_DAY
            self._ends[days_before] = np.searchsorted(self.moment, moments, side="right")
        return self._ends[days_before]

    # -- sums ------------------------------------------------------------------------------------

    def _sum(self, summed: Sum, window: Window) -> Whole:
        """Sums over a window, [A]."""
        running = self._running_sum(summed.column, NO_WINDOW)
        total: Whole = (
            running[self._end(window.delay_days)] - running[self._end(window.lookback_days)]
        )
        if summed.what in ("judged", "frauds"):
            place = self.plan.corrected.index(window)
            if self.corrections or (summed.column, place) in self.rows.settled:
                total = total + self._from_start(summed.column, place, self.at)
        return total

    def _since_start(self, summed: Sum, days_before: int) -> Whole:
        """Sums over all that lies so many days or more before, [A]."""
        return self._from_start(summed.column, NO_WINDOW, self._end(days_before))

    def _from_start(self, column: str, corrects: int, end: Places) -> Whole:
        """Sums from the group's start, rows that are not kept any more included, [A]."""
        running = self._running_sum(column, corrects)
        settled = self.rows.settled.get((column, corrects), 0)
        found: Whole = running[end] - running[self._begins]
        carried: Whole = np.where(self._asked_group == 0, settled, 0)
        return found + carried

    def _running_sum(self, column: str, corrects: int) -> Whole:
        """Sums before each row, and of all; of events, or of what corrects a window. [N + 1]."""
        if (column, corrects) not in self._running:
            values = self.rows.columns[column]
            if self.corrections or corrects != NO_WINDOW:
                values = np.where(self.rows.corrects == corrects, values, 0)
            self._running[column, corrects] = np.concatenate(
                [np.zeros(1, dtype=np.int64), np.cumsum(values)]
            )
        return self._running[column, corrects]

    # -- the last event, and the least and the greatest ------------------------------------------

    def _since_last(self, feature: Feature) -> Numbers:
        assert feature.window is not None
        last = self.rows.columns[LAST]
        moments = np.where(last == NO_EVENT, NO_EVENT, self.moment + (last - self.rows.time))
        # Moments of events only grow, so the greatest before a row is the last.
        before = np.maximum.accumulate(moments)
        there = self.at > 0
        gap = self.moment[self.at] - np.where(there, before[self.at - 1], NO_EVENT)
        inside = there & (gap < feature.window.length_days * MICROS_PER_DAY)
        if feature.function is Function.FIRST_TIME:
            first: Numbers = (~inside).astype(np.float64)
            return first
        return _defined(gap.astype(np.float64) / MICROS_PER_SECOND, inside)

    def _extreme(self, feature: Feature) -> Numbers:
        assert feature.window is not None and feature.measure is not None
        first, last = (
            self._end(feature.window.lookback_days),
            self._end(feature.window.delay_days),
        )
        if feature.function is Function.MIN:
            found = -_greatest(-self.rows.columns[least(feature.measure)], first, last, -NO_LEAST)
            nothing = found == NO_LEAST
        else:
            column = self.rows.columns[greatest(feature.measure)]
            found = _greatest(column, first, last, NO_GREATEST)
            nothing = found == NO_GREATEST
        return _defined(found.astype(np.float64) / MINOR_UNITS, ~nothing)


def _defined(values: Numbers, where: npt.NDArray[np.bool_]) -> Numbers:
    return np.where(where, values, np.nan)


def _greatest(values: Whole, first: Places, last: Places, nothing: int) -> Whole:
    """Greatest of `values[first:last]` for each pair [A], from maxima over powers of two."""
    found = np.full(len(first), nothing, dtype=np.int64)
    level = np.frexp(last - first)[1] - 1
    table = values
    for power in range(int(level.max(initial=-1)) + 1):
        mine = level == power
        ends = last[mine] - (1 << power)
        found[mine] = np.maximum(table[first[mine]], table[ends])
        table = np.maximum(table[: -(1 << power)], table[1 << power :])
    return found


# -- formulas ---------------------------------------------------------------------------------


def _count(feature: Feature, sums: list[Whole]) -> Whole:
    return sums[0]


def _total(feature: Feature, sums: list[Whole]) -> Numbers:
    total: Numbers = sums[0].astype(np.float64) / MINOR_UNITS
    return total


def _mean(feature: Feature, sums: list[Whole]) -> Numbers:
    return _divided(feature, sums[1], sums[0], MINOR_UNITS)


def _rate(feature: Feature, sums: list[Whole]) -> Numbers:
    return _divided(feature, sums[1], sums[0], 1)


def _divided(feature: Feature, total: Whole, number: Whole, scale: int) -> Numbers:
    empty = number == 0
    value: Numbers = total.astype(np.float64) / np.where(empty, 1, number) / scale
    return np.where(empty, np.nan if feature.empty is None else feature.empty, value)


def _usual_gap(feature: Feature, sums: list[Whole]) -> Numbers:
    assert feature.window is not None
    length_s = float(feature.window.length_days * MICROS_PER_DAY // MICROS_PER_SECOND)
    empty = sums[0] == 0
    return _defined(length_s / np.where(empty, 1, sums[0]), ~empty)


def _deviation(feature: Feature, sums: list[Whole]) -> Numbers:
    """Exact up to the last division: floats lose all digits where amounts are nearly equal."""
    number, total, high, middle, low = (column.astype(object) for column in sums)
    squares = (high << 2 * LIMB_BITS) + (middle << LIMB_BITS) + low
    few = sums[0] < 2
    pairs = np.where(few, 1, number * (number - 1))
    variance = np.where(few, 0, number * squares - total * total) / pairs
    return _defined(np.sqrt(variance.astype(np.float64)) / MINOR_UNITS, ~few)


FORMULAS: dict[Function, Callable[[Feature, list[Whole]], Values]] = {
    Function.COUNT: _count,
    Function.SUM: _total,
    Function.MEAN: _mean,
    Function.SHARE: _rate,
    Function.STD: _deviation,
    Function.FRAUD_RATE: _rate,
    Function.FRAUD_COUNT: _count,
    Function.LABEL_COUNT: _count,
    Function.SECONDS_BETWEEN: _usual_gap,
}
