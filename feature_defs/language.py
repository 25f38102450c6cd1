"""The language of features: frozen definitions that are checked when they are constructed.

Feature names are derived from the definitions, so a name always matches its window.

    CARD_SPEND = FeatureView(
        entity=CARD,
        source=TRANSACTIONS,
        aggregations=(count(days(1, 7, 30)), mean("amount", days(1, 7, 30))),
        description="How often and how much the card spent, this transaction included.",
    )

The `README.md` beside this file lists the functions and shows what a window contains.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from feature_defs.errors import DefinitionError
from feature_defs.feature import (
    LABEL_FUNCTIONS,
    LAST_FUNCTIONS,
    MONEY_FUNCTIONS,
    Condition,
    Entity,
    Feature,
    Function,
    Kind,
    Window,
)
from feature_defs.sources import AMOUNT_DIGITS, TRANSACTIONS, Source

CONDITIONAL = frozenset({Function.COUNT, Function.SUM, Function.MEAN, Function.SHARE})
# Functions whose value over an empty window may be chosen (`empty`).
WITH_EMPTY_VALUE = frozenset({Function.SUM, Function.MEAN, Function.SHARE, Function.FRAUD_RATE})
KIND_OF_FUNCTION = {
    Function.COUNT: Kind.COUNT,
    Function.SUM: Kind.AMOUNT,
    Function.MEAN: Kind.AMOUNT,
    Function.MIN: Kind.AMOUNT,
    Function.MAX: Kind.AMOUNT,
    Function.STD: Kind.AMOUNT,
    Function.SHARE: Kind.RATE,
    Function.DISTINCT: Kind.COUNT,
    Function.FRAUD_RATE: Kind.RATE,
    Function.FRAUD_COUNT: Kind.COUNT,
    Function.LABEL_COUNT: Kind.COUNT,
    Function.SECONDS_SINCE_LAST: Kind.DURATION_S,
    Function.SECONDS_BETWEEN: Kind.DURATION_S,
    Function.FIRST_TIME: Kind.RATE,
}


def days(*lengths: int, delay: int = 0) -> tuple[Window, ...]:
    """Return windows of these lengths in days, all with the same delay in days.

    >>> [window.suffix for window in days(1, 7, delay=7)]
    ['1d_delay_7d', '7d_delay_7d']
    """
    return tuple(Window(length, delay) for length in lengths)


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
                f"{name}: {windows!r} is not a tuple of windows; write days(7) or days(1, 7)"
            )
        if self.function not in KIND_OF_FUNCTION:
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
        takes_measure = self.function in MONEY_FUNCTIONS | {Function.DISTINCT}
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
        if self.function in LABEL_FUNCTIONS and any(w.delay_days == 0 for w in self.windows):
            raise DefinitionError(
                f"{name} needs a delay, because labels of the last days are not mature at the time "
                "of the transaction; write days(..., delay=N)"
            )
        if self.function in LAST_FUNCTIONS and any(w.delay_days for w in self.windows):
            raise DefinitionError(
                f"{name} cannot have a delay: it uses the event just before the transaction"
            )

    def _check_empty(self, empty: float) -> None:
        if self.function not in WITH_EMPTY_VALUE:
            raise DefinitionError(f"{self.title}: the value over an empty window cannot be chosen")
        highest = 1 if KIND_OF_FUNCTION[self.function] is Kind.RATE else 10**AMOUNT_DIGITS
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
    """Sum an amount, exactly: in integer minor units; 0 over an empty window."""
    return Aggregation(Function.SUM, windows, measure, 0.0, where)


def mean(
    measure: str,
    windows: tuple[Window, ...],
    empty: float | None = None,
    where: Condition | None = None,
) -> Aggregation:
    """Average an amount, exactly: summed in integer minor units and divided once."""
    return Aggregation(Function.MEAN, windows, measure, empty, where)


def minimum(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Take the smallest amount; null over an empty window."""
    return Aggregation(Function.MIN, windows, measure)


def maximum(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Take the largest amount; null over an empty window."""
    return Aggregation(Function.MAX, windows, measure)


def standard_deviation(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Compute the sample standard deviation of an amount (by n - 1); null below two events."""
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


@dataclass(frozen=True)
class FeatureView:
    """Aggregations of the events of one source, per entity; each window gives one feature."""

    entity: Entity
    source: Source
    aggregations: tuple[Aggregation, ...]
    description: str

    def __post_init__(self) -> None:
        items = self.aggregations
        if not isinstance(items, tuple) or not all(isinstance(one, Aggregation) for one in items):
            raise DefinitionError(
                f"view of {self.entity.name}: aggregations must be a tuple, such as "
                "(count(days(7)),); a tuple of one aggregation needs a comma at its end"
            )
        if not items:
            raise DefinitionError(f"view of {self.entity.name}: add at least one aggregation")
        if self.source is not TRANSACTIONS:
            raise DefinitionError(
                f"view of {self.entity.name}: its source must be {TRANSACTIONS.name}, not "
                f"{self.source.name}; use fraud_rate, fraud_count or label_count to read labels"
            )
        errors = [text for key in self.entity.keys for text in self._missing_column(key, "its key")]
        for aggregation in self.aggregations:
            errors += self._column_errors(aggregation)
            errors += [
                f"{aggregation.title}: the window {window.suffix} starts {window.lookback_days} "
                f"days before the transaction; the limit for {self.source.name} is "
                f"{self.source.max_lookback_days} days"
                for window in aggregation.windows
                if window.lookback_days > self.source.max_lookback_days
            ]
        if errors:
            raise DefinitionError(f"view of {self.entity.name}: {'; '.join(errors)}")

    def _missing_column(self, column: str, used_by: str) -> list[str]:
        names = [declared.name for declared in self.source.columns]
        if column in names:
            return []
        return [
            f"{used_by}: {self.source.name} has no column {column!r}; it has: {', '.join(names)}"
        ]

    def _column_errors(self, aggregation: Aggregation) -> list[str]:
        name, measure, where = aggregation.title, aggregation.measure, aggregation.where
        errors = []
        if measure is not None:
            missing = self._missing_column(measure, name)
            errors += missing or self._type_errors(aggregation, measure)
        if where is not None:
            missing = self._missing_column(where.column, f"condition {where.name}")
            errors += missing or self._comparison_errors(where)
        return errors

    def _type_errors(self, aggregation: Aggregation, measure: str) -> list[str]:
        type_ = self.source.column(measure).type
        if aggregation.function is Function.DISTINCT:
            if type_ == "string" and measure not in self.entity.keys:
                return []
            return [
                f"distinct {measure} ({type_}): use a text column that is not a key of the entity"
            ]
        if type_.startswith("decimal"):
            return []
        name = aggregation.function.value
        return [f"{name} of {measure} ({type_}) is not exact; use a decimal column"]

    def _comparison_errors(self, where: Condition) -> list[str]:
        type_ = self.source.column(where.column).type
        number = isinstance(where.value, int | Decimal)
        if (type_.startswith("decimal") and number) or (type_ == "string" and not number):
            return []
        return [
            f"condition {where.name}: {where.column} is {type_} and cannot be compared with "
            f"{where.value!r}; compare texts with texts and decimals with numbers"
        ]

    @property
    def features(self) -> tuple[Feature, ...]:
        """Return one feature for each aggregation and window."""
        return tuple(
            self._feature(aggregation, window)
            for aggregation in self.aggregations
            for window in aggregation.windows
        )

    def _feature(self, aggregation: Aggregation, window: Window) -> Feature:
        condition = aggregation.where.name if aggregation.where else None
        function = aggregation.function
        parts = [self.entity.name, aggregation.measure, function.value, condition, window.suffix]
        return Feature(
            name="_".join(part for part in parts if part),
            kind=KIND_OF_FUNCTION[function],
            description=self.description,
            entity=self.entity,
            source=self.source.name,
            function=function,
            measure=aggregation.measure,
            window=window,
            empty=aggregation.empty,
            where=aggregation.where,
        )
