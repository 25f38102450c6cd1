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
from feature_defs.windows import MINUTES_PER_DAY, SECONDS_PER_MINUTE

MICROS_PER_SECOND = 1_000_000
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND

# Stream columns: time of the row, index of the label window that it corrects, time of its event.
TIME, CORRECTED_WINDOW, LAST_EVENT = "_time", "_corrected_window", "_last_event"
# Stream columns: whether the row's features are output; whether it is the first of its group.
IS_OUTPUT, GROUP_START = "_is_output", "_group_start"
# Stream column with the other columns of an output row; null for all other rows.
ROW = "_row"
# `CORRECTED_WINDOW` of a row that corrects no window.
NO_WINDOW = -1
# `LAST_EVENT` of a row that is not an event: earlier than any event.
NO_EVENT = -(2**61)
# Minimum and maximum of a row that is not an event: outside the range of amounts.
NO_MIN, NO_MAX = 2**62, -(2**62)
# The square of a number below 2**60 is summed in five parts, so that a million of the largest ones
# do not overflow.
LIMB_BITS, NUM_SQUARE_PARTS = 20, 5
# Value of a row that has none: lower than any value.
ABSENT = -(2**62)
# Places are compared in integer units of 10**-7 degrees, about a centimetre.
DEGREE_UNITS = 10**7


@dataclass(frozen=True)
class Sum:
    """A stream column that is summed: what each matching row adds.

    `quantity` is one of events, present (events with a measure), number (the measure in integer
    units), square_0 to square_4 (parts of its square), labelled, frauds, entering, leaving.
    """

    quantity: str
    measure: str | None = None
    where: Condition | None = None
    # Delay of a label window, or length of the window in which a distinct value counts once.
    seconds: int | None = None

    @property
    def column(self) -> str:
        """Return the name of the stream column."""
        condition = self.where.name if self.where else None
        length = f"{self.seconds}s" if self.seconds is not None else None
        parts = (self.quantity, self.measure, condition, length)
        return "_" + "_".join(part for part in parts if part)


EVENTS = Sum("events")


@dataclass(frozen=True)
class EventValue:
    """A stream column with a value of each event, for functions that compare single events.

    `quantity` is one of hash (of a text), number (in integer units), time_of_day (in microseconds),
    latitude, longitude. Rows that are no event, or have no such value, have `ABSENT`.
    """

    quantity: str
    measure: str | None = None

    @property
    def column(self) -> str:
        """Return the name of the stream column."""
        return "_value_" + "_".join(part for part in (self.quantity, self.measure) if part)


LATITUDE, LONGITUDE = EventValue("latitude"), EventValue("longitude")


def event_values_of(feature: Feature) -> tuple[EventValue, ...]:
    """Return the values of single events that a feature is computed from."""
    table: dict[Function, tuple[EventValue, ...]] = {
        Function.SAME_SHARE: (EventValue("hash", feature.measure),),
        Function.QUANTILE_RANK: (EventValue("number", feature.measure),),
        Function.HOUR_SHARE: (EventValue("time_of_day"),),
        Function.KILOMETRES_SINCE_LAST: (LATITUDE, LONGITUDE),
        Function.SPEED_SINCE_LAST: (LATITUDE, LONGITUDE),
    }
    return table.get(feature.function, ()) if feature.function else ()


def sums_of(feature: Feature) -> tuple[Sum, ...]:
    """Return the sums that a feature is computed from, in the order of its formula's arguments."""
    measure, where, window = feature.measure, feature.where, feature.window
    assert window is not None
    delay, length = window.delay_s, window.length_s
    number, money = Sum("events", where=where), Sum("number", measure, where)
    if feature.is_nullable_measure and feature.function is not Function.DISTINCT:
        number = Sum("present", measure, where)
    squares = [Sum(f"square_{part}", measure) for part in range(NUM_SQUARE_PARTS)]
    labelled, frauds = Sum("labelled", seconds=delay), Sum("frauds", seconds=delay)
    table: dict[Function, tuple[Sum, ...]] = {
        Function.COUNT: (number,),
        Function.SUM: (money,),
        Function.MEAN: (number, money),
        Function.SHARE: (EVENTS, number),
        Function.STD: (number, money, *squares),
        Function.DEVIATION: (number, money, *squares),
        Function.SAME_SHARE: (EVENTS,),
        Function.FRAUD_RATE: (labelled, frauds),
        Function.FRAUD_COUNT: (frauds,),
        Function.LABEL_COUNT: (labelled,),
        Function.SECONDS_BETWEEN: (EVENTS,),
        Function.DISTINCT: (
            Sum("entering", measure, seconds=length),
            Sum("leaving", measure, seconds=length),
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
        return tuple(sorted(windows, key=lambda w: (w.delay_s, w.length_s)))

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
    def event_values(self) -> tuple[EventValue, ...]:
        """Return the values of single events that a feature compares."""
        return tuple(dict.fromkeys(value for f in self.features for value in event_values_of(f)))

    @property
    def can_be_split(self) -> bool:
        """Return whether a hot key may be split: sums of events must be all that is needed."""
        return not self.event_values

    @property
    def scales(self) -> dict[str, int]:
        """Return the digits after the decimal point with which each measure is summed."""
        return {f.measure: f.scale for f in self.features if f.measure}

    @property
    def integer_columns(self) -> tuple[str, ...]:
        """Return the integer columns that `WindowStream` reads."""
        corrected = (CORRECTED_WINDOW,) if self.label_windows else ()
        last = (LAST_EVENT,) if any(f.function in LAST_FUNCTIONS for f in self.features) else ()
        sums = (summed.column for summed in self.sums)
        extremes = (*map(min_column, self.min_measures), *map(max_column, self.max_measures))
        values = (value.column for value in self.event_values)
        return (TIME, *corrected, *last, *sums, *extremes, *values)

    @property
    def input_columns(self) -> tuple[str, ...]:
        """Return all columns that `WindowStream` reads, in order."""
        return (GROUP_START, IS_OUTPUT, *self.integer_columns)

    @property
    def lookback_micros(self) -> int:
        """Return the longest lookback of the features, in microseconds."""
        seconds = max(f.window.lookback_s for f in self.features if f.window)
        return seconds * MICROS_PER_SECOND

    @property
    def overlap_minutes(self) -> int:
        """Return how much earlier in the day than its transaction a window's end can be.

        It is 0 if all windows have whole days (`hot_keys.py` needs it).
        """
        windows = (f.window for f in self.features if f.window)
        ends = (end for window in windows for end in (window.delay_s, window.lookback_s))
        return max(end // SECONDS_PER_MINUTE % MINUTES_PER_DAY for end in ends)
