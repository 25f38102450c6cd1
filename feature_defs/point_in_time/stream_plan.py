"""Columns of an entity's stream, and the columns from which each feature is computed.

Every row adds integers to running sums. The sum over a window is the difference of two running
sums, so it is exact, no matter where a batch, a partition or the stream starts. This module uses no
Spark and reads no data.
"""

from __future__ import annotations

from dataclasses import dataclass

from feature_defs.feature import (
    LABEL_FUNCTIONS,
    LAST_FUNCTIONS,
    Condition,
    Feature,
    Function,
    Window,
)
from feature_defs.sources import MONEY_SCALE

MICROS_PER_SECOND = 1_000_000
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
MINOR_UNITS = 10**MONEY_SCALE

# Stream columns: time of the row, index of the label window that it corrects, time of its event.
TIME, CORRECTED_WINDOW, LAST_EVENT = "_time", "_corrected_window", "_last_event"
# Stream columns: whether the row's features are output; whether it is the first of its group.
IS_OUTPUT, GROUP_START = "_is_output", "_group_start"
# `CORRECTED_WINDOW` of a row that corrects no window.
NO_WINDOW = -1
# `LAST_EVENT` of a row that is not an event: earlier than any event.
NO_EVENT = -(2**61)
# Minimum and maximum of a row that is not an event: outside the range of amounts.
NO_MIN, NO_MAX = 2**62, -(2**62)
# A square is summed in three parts, so that half a million of the largest amounts do not overflow.
LIMB_BITS = 22


@dataclass(frozen=True)
class Sum:
    """A stream column that is summed: what each matching row adds.

    `quantity` is one of events, money, square_high, square_middle, square_low, labelled, frauds,
    entering, leaving.
    """

    quantity: str
    measure: str | None = None
    where: Condition | None = None
    # Delay of a label window, or length of the window in which a distinct value counts once.
    num_days: int | None = None

    @property
    def column(self) -> str:
        """Return the name of the stream column."""
        condition = self.where.name if self.where else None
        length = f"{self.num_days}d" if self.num_days is not None else None
        parts = (self.quantity, self.measure, condition, length)
        return "_" + "_".join(part for part in parts if part)


EVENTS = Sum("events")


def sums_of(feature: Feature) -> tuple[Sum, ...]:
    """Return the sums that a feature is computed from, in the order of its formula's arguments."""
    measure, where, window = feature.measure, feature.where, feature.window
    assert window is not None
    delay, length = window.delay_days, window.length_days
    number, money = Sum("events", where=where), Sum("money", measure, where)
    squares = (Sum(f"square_{part}", measure) for part in ("high", "middle", "low"))
    labelled, frauds = Sum("labelled", num_days=delay), Sum("frauds", num_days=delay)
    table: dict[Function, tuple[Sum, ...]] = {
        Function.COUNT: (number,),
        Function.SUM: (money,),
        Function.MEAN: (number, money),
        Function.SHARE: (EVENTS, number),
        Function.STD: (EVENTS, money, *squares),
        Function.FRAUD_RATE: (labelled, frauds),
        Function.FRAUD_COUNT: (frauds,),
        Function.LABEL_COUNT: (labelled,),
        Function.SECONDS_BETWEEN: (EVENTS,),
        Function.DISTINCT: (
            Sum("entering", measure, num_days=length),
            Sum("leaving", measure, num_days=length),
        ),
    }
    return table.get(feature.function, ()) if feature.function else ()


def min_column(measure: str) -> str:
    """Return the stream column with the smallest amount of the events that a row represents."""
    return f"_min_{measure}"


def max_column(measure: str) -> str:
    """Return the stream column with the largest amount of the events that a row represents."""
    return f"_max_{measure}"


@dataclass(frozen=True)
class StreamPlan:
    """The columns of an entity's stream, derived from the features to compute."""

    keys: tuple[str, ...]
    # Name of the column with the slice number of a hot key.
    slice: str
    features: tuple[Feature, ...]

    @property
    def group_columns(self) -> tuple[str, ...]:
        """Return the columns that define a group: rows of one group are sorted by time."""
        return (*self.keys, self.slice)

    @property
    def label_windows(self) -> tuple[Window, ...]:
        """Return the windows of label features; late labels refer to them by their index here."""
        windows = {f.window for f in self.features if f.window and f.function in LABEL_FUNCTIONS}
        return tuple(sorted(windows, key=lambda w: (w.delay_days, w.length_days)))

    @property
    def sums(self) -> tuple[Sum, ...]:
        """Return the sums of all features, without duplicates."""
        return tuple(dict.fromkeys(needed for f in self.features for needed in sums_of(f)))

    @property
    def min_measures(self) -> tuple[str, ...]:
        """Return the amount columns whose minimum a feature needs."""
        return self._measures(Function.MIN)

    @property
    def max_measures(self) -> tuple[str, ...]:
        """Return the amount columns whose maximum a feature needs."""
        return self._measures(Function.MAX)

    def _measures(self, function: Function) -> tuple[str, ...]:
        measures = (f.measure for f in self.features if f.function is function and f.measure)
        return tuple(dict.fromkeys(measures))

    @property
    def distinct_columns(self) -> tuple[str, ...]:
        """Return the columns whose distinct values a feature counts."""
        return self._measures(Function.DISTINCT)

    @property
    def integer_columns(self) -> tuple[str, ...]:
        """Return the integer columns that `WindowStream` reads."""
        corrected = (CORRECTED_WINDOW,) if self.label_windows else ()
        last = (LAST_EVENT,) if any(f.function in LAST_FUNCTIONS for f in self.features) else ()
        sums = (summed.column for summed in self.sums)
        extremes = (*map(min_column, self.min_measures), *map(max_column, self.max_measures))
        return (TIME, *corrected, *last, *sums, *extremes)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Return all columns that `WindowStream` reads, in order."""
        return (GROUP_START, IS_OUTPUT, *self.integer_columns)

    @property
    def lookback_micros(self) -> int:
        """Return the longest lookback of the features, in microseconds."""
        return max(f.lookback_days for f in self.features) * MICROS_PER_DAY
