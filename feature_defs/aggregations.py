"""The functions of the language: each gives one value of the events in a window."""

from __future__ import annotations

from dataclasses import dataclass

from feature_defs.errors import DefinitionError
from feature_defs.feature import (
    LABEL_FUNCTIONS,
    LAST_FUNCTIONS,
    NUMBER_FUNCTIONS,
    SAME_KIND_FUNCTIONS,
    TEXT_FUNCTIONS,
    Condition,
    Function,
    Kind,
)
from feature_defs.sources import AMOUNT_DIGITS
from feature_defs.windows import Window

CONDITIONAL = frozenset({Function.COUNT, Function.SUM, Function.MEAN, Function.SHARE})
# Functions whose value over an empty window may be chosen (`empty`).
WITH_EMPTY_VALUE = frozenset({Function.SUM, Function.MEAN, Function.SHARE, Function.FRAUD_RATE})
# Other functions have the kind of their measure (`SAME_KIND_FUNCTIONS`).
KIND_OF_FUNCTION = {
    Function.COUNT: Kind.COUNT,
    Function.SHARE: Kind.RATE,
    Function.DISTINCT: Kind.COUNT,
    Function.FRAUD_RATE: Kind.RATE,
    Function.FRAUD_COUNT: Kind.COUNT,
    Function.LABEL_COUNT: Kind.COUNT,
    Function.SECONDS_SINCE_LAST: Kind.DURATION_S,
    Function.SECONDS_BETWEEN: Kind.DURATION_S,
    Function.FIRST_TIME: Kind.RATE,
    Function.SAME_SHARE: Kind.RATE,
    Function.DEVIATION: Kind.NUMBER,
    Function.QUANTILE_RANK: Kind.RATE,
    Function.HOUR_SHARE: Kind.RATE,
    Function.KILOMETRES_SINCE_LAST: Kind.DISTANCE_KM,
    Function.SPEED_SINCE_LAST: Kind.SPEED_KMH,
}


@dataclass(frozen=True)
class Aggregation:
    """One function of one measure, over several windows.

    `empty` is the value over an empty window; with `None` the value is null (never NaN).
    """

    function: Function
    windows: tuple[Window, ...]
    measure: str | None = None
    empty: float | None = None
    where: Condition | None = None

    @property
    def title(self) -> str:
        """Return the function, its measure and its condition, for error messages."""
        measure = f" of {self.measure}" if self.measure else ""
        where = f" where {self.where.name}" if self.where else ""
        return f"{self.function.value}{measure}{where}"

    def __post_init__(self) -> None:
        if self.where is not None and not isinstance(self.where, Condition):
            raise DefinitionError(
                f"{self.function.value} where {self.where!r}: this is not a condition; write "
                'Condition("above_100", "amount", ">", 100)'
            )
        name = self.title
        windows = self.windows
        if not isinstance(windows, tuple) or not all(isinstance(w, Window) for w in windows):
            raise DefinitionError(
                f"{name}: {windows!r} is not a tuple of windows; write days(7), hours(1, 6) or "
                "minutes(10)"
            )
        if self.function not in KIND_OF_FUNCTION and self.function not in SAME_KIND_FUNCTIONS:
            raise DefinitionError(
                f"{name} is derived from features, not from events; use Ratio or SmoothedRate"
            )
        if not self.windows:
            raise DefinitionError(f"{name} needs at least one window, such as days(7)")
        repeated = {window.suffix for window in windows if windows.count(window) > 1}
        if repeated:
            raise DefinitionError(
                f"{name} has the same window more than once: {', '.join(sorted(repeated))}"
            )
        takes_measure = self.function in NUMBER_FUNCTIONS | TEXT_FUNCTIONS
        if takes_measure != (self.measure is not None):
            wanted = "needs a measure" if takes_measure else "takes no measure"
            raise DefinitionError(f"{self.function.value} {wanted}, but has {self.measure!r}")
        if self.where and self.function not in CONDITIONAL:
            allowed = ", ".join(sorted(function.value for function in CONDITIONAL))
            raise DefinitionError(f"{name} cannot have a condition; these functions can: {allowed}")
        if self.function is Function.SHARE and self.where is None:
            raise DefinitionError("share needs a condition: which events does it count?")
        self._check_delays()
        if self.empty is not None:
            self._check_empty(self.empty)

    def _check_delays(self) -> None:
        name = self.title
        if self.function in LABEL_FUNCTIONS and any(w.delay_s == 0 for w in self.windows):
            raise DefinitionError(
                f"{name} needs a delay, because labels of the last days are not mature at the time "
                "of the transaction; write days(..., delay=N)"
            )
        if self.function in LAST_FUNCTIONS and any(w.delay_s for w in self.windows):
            raise DefinitionError(
                f"{name} cannot have a delay: it uses the event just before the transaction"
            )

    def _check_empty(self, empty: float) -> None:
        if self.function not in WITH_EMPTY_VALUE:
            raise DefinitionError(f"{self.title}: the value over an empty window cannot be chosen")
        highest = 1 if KIND_OF_FUNCTION.get(self.function) is Kind.RATE else 10**AMOUNT_DIGITS
        if (
            isinstance(empty, bool)
            or not isinstance(empty, int | float)
            or not 0 <= empty <= highest
        ):
            raise DefinitionError(
                f"{self.title}: {empty!r} is not a valid value over an empty window; use a number "
                f"from 0 to {highest:g}, or None"
            )


def count(windows: tuple[Window, ...], where: Condition | None = None) -> Aggregation:
    """Count the events."""
    return Aggregation(Function.COUNT, windows, where=where)


def total(measure: str, windows: tuple[Window, ...], where: Condition | None = None) -> Aggregation:
    """Sum an amount or another number, exactly: in integer units; 0 over an empty window."""
    return Aggregation(Function.SUM, windows, measure, 0.0, where)


def mean(
    measure: str,
    windows: tuple[Window, ...],
    empty: float | None = None,
    where: Condition | None = None,
) -> Aggregation:
    """Average a number, exactly: summed in integer units and divided once."""
    return Aggregation(Function.MEAN, windows, measure, empty, where)


def minimum(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Take the smallest number; null over an empty window."""
    return Aggregation(Function.MIN, windows, measure)


def maximum(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Take the largest number; null over an empty window."""
    return Aggregation(Function.MAX, windows, measure)


def standard_deviation(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Compute the sample standard deviation of a number (by n - 1); null below two events."""
    return Aggregation(Function.STD, windows, measure)


def share(where: Condition, windows: tuple[Window, ...], empty: float | None = None) -> Aggregation:
    """Compute the share of the events that match a condition."""
    return Aggregation(Function.SHARE, windows, empty=empty, where=where)


def distinct(column: str, windows: tuple[Window, ...]) -> Aggregation:
    """Count the distinct values of a text column."""
    return Aggregation(Function.DISTINCT, windows, column)


def fraud_rate(windows: tuple[Window, ...], empty: float | None = None) -> Aggregation:
    """Divide the known frauds by the labelled transactions; only mature labels count."""
    return Aggregation(Function.FRAUD_RATE, windows, empty=empty)


def fraud_count(windows: tuple[Window, ...]) -> Aggregation:
    """Count the transactions whose latest mature label says fraud."""
    return Aggregation(Function.FRAUD_COUNT, windows)


def label_count(windows: tuple[Window, ...]) -> Aggregation:
    """Count the transactions with a mature label, fraud or genuine."""
    return Aggregation(Function.LABEL_COUNT, windows)


def seconds_since_last(windows: tuple[Window, ...]) -> Aggregation:
    """Compute the seconds since the entity's previous event in the window; null without one."""
    return Aggregation(Function.SECONDS_SINCE_LAST, windows)


def seconds_between(windows: tuple[Window, ...]) -> Aggregation:
    """Compute the mean gap: the window's length in seconds over its number of events.

    Null over an empty window.
    """
    return Aggregation(Function.SECONDS_BETWEEN, windows)


def first_time(windows: tuple[Window, ...]) -> Aggregation:
    """Return 1 when the window contains no earlier event of the entity, else 0."""
    return Aggregation(Function.FIRST_TIME, windows)


def same_share(column: str, windows: tuple[Window, ...]) -> Aggregation:
    """Compute the share of the earlier events that have this event's value of a text column.

    Null without earlier events, or if this event has no value. Events without a value count as
    earlier events, and equal no other.
    """
    return Aggregation(Function.SAME_SHARE, windows, column)


def deviation(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Compute how far this event is from the mean of the earlier ones, in standard deviations.

    Null below two earlier events, and if they are all equal.
    """
    return Aggregation(Function.DEVIATION, windows, measure)


def quantile_rank(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Compute the share of the earlier events with a smaller number; equal ones count half.

    Null without earlier events.
    """
    return Aggregation(Function.QUANTILE_RANK, windows, measure)


def hour_share(windows: tuple[Window, ...]) -> Aggregation:
    """Compute the share of the earlier events within two hours of this hour, round the clock.

    Null without earlier events, or if this event has no time of day. Earlier events without a time
    of day are left out.
    """
    return Aggregation(Function.HOUR_SHARE, windows)


def kilometres_since_last(windows: tuple[Window, ...]) -> Aggregation:
    """Compute the great-circle distance from the merchant of the previous event, in km.

    Null without a previous event in the window, or if one of the two has no place.
    """
    return Aggregation(Function.KILOMETRES_SINCE_LAST, windows)


def speed_since_last(windows: tuple[Window, ...]) -> Aggregation:
    """Divide `kilometres_since_last` by the time between the two events, in km/h.

    Null where the distance is null, and if both events have the same time.
    """
    return Aggregation(Function.SPEED_SINCE_LAST, windows)
