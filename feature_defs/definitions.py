"""The language features are declared in: frozen data, checked on construction.

Names are derived from definitions, so none can lie about its window.

    CARD_SPEND = FeatureView(
        entity=CARD,
        source=TRANSACTIONS,
        aggregations=(count(days(1, 7, 30)), mean("amount", days(1, 7, 30))),
        description="How often and how much the card spent up to this transaction.",
    )
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
# An empty window of others has one value only, or none.
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
    """Windows of these lengths, all with the same delay, in days."""
    return tuple(Window(length, delay) for length in lengths)


@dataclass(frozen=True)
class Aggregation:
    """One function over one measure for several windows.

    `empty` is the value over an empty window; `None` leaves it null (never NaN).
    """

    function: Function
    windows: tuple[Window, ...]
    measure: str | None = None
    empty: float | None = None
    where: Condition | None = None

    @property
    def title(self) -> str:
        """What it is called in an error: the function, its measure and its condition."""
        measure = f" of {self.measure}" if self.measure else ""
        where = f" where {self.where.name}" if self.where else ""
        return f"{self.function.value}{measure}{where}"

    def __post_init__(self) -> None:
        if self.where is not None and not isinstance(self.where, Condition):
            raise DefinitionError(
                f"{self.function.value} where {self.where!r}: that is no condition; write "
                'Condition("above_100", "amount", ">", 100)'
            )
        name = self.title
        windows = self.windows
        if not isinstance(windows, tuple) or not all(isinstance(w, Window) for w in windows):
            raise DefinitionError(f"{name} has {windows!r} for windows; write days(7), days(1, 7)")
        if self.function not in KIND_OF_FUNCTION:
            raise DefinitionError(f"{name} is made from features, not from events")
        if not self.windows:
            raise DefinitionError(f"{name} needs at least one window")
        twice = {window.suffix for window in windows if windows.count(window) > 1}
        if twice:
            raise DefinitionError(f"{name} names the same window twice: {', '.join(sorted(twice))}")
        measured = self.function in MONEY_FUNCTIONS | {Function.DISTINCT}
        if measured != (self.measure is not None):
            wanted = "it needs one" if measured else "it has none"
            raise DefinitionError(
                f"{self.function.value} and measure {self.measure!r} do not go together: {wanted}"
            )
        if self.where and self.function not in CONDITIONAL:
            allowed = ", ".join(sorted(function.value for function in CONDITIONAL))
            raise DefinitionError(f"{name}: it has no condition; these have one: {allowed}")
        if self.function is Function.SHARE and self.where is None:
            raise DefinitionError("a share needs a condition: the share of which events?")
        self._check_delays()
        if self.empty is not None:
            self._check_empty(self.empty)

    def _check_delays(self) -> None:
        name = self.title
        if self.function in LABEL_FUNCTIONS and any(w.delay_days == 0 for w in self.windows):
            raise DefinitionError(
                f"a {name} needs a delay: labels of the last days are not known at the "
                "transaction's moment; give days(..., delay=N)"
            )
        if self.function in LAST_FUNCTIONS and any(w.delay_days for w in self.windows):
            raise DefinitionError(f"{name} has no delay: it looks at the event just before")

    def _check_empty(self, empty: float) -> None:
        if self.function not in WITH_EMPTY_VALUE:
            raise DefinitionError(f"{self.title} has no value of its own for an empty window")
        highest = 1 if KIND_OF_FUNCTION[self.function] is Kind.RATE else 10**AMOUNT_DIGITS
        if (
            isinstance(empty, bool)
            or not isinstance(empty, int | float)
            or not 0 <= empty <= highest
        ):
            raise DefinitionError(
                f"{self.title} is {empty!r} over an empty window; that is a number from 0 to "
                f"{highest:g}, or None"
            )


def count(windows: tuple[Window, ...], where: Condition | None = None) -> Aggregation:
    """Number of events."""
    return Aggregation(Function.COUNT, windows, where=where)


def total(measure: str, windows: tuple[Window, ...], where: Condition | None = None) -> Aggregation:
    """Sum of an amount, exact: in integer minor units; 0 over an empty window."""
    return Aggregation(Function.SUM, windows, measure, 0.0, where)


def mean(
    measure: str,
    windows: tuple[Window, ...],
    empty: float | None = None,
    where: Condition | None = None,
) -> Aggregation:
    """Mean of an amount, exact: summed in integer minor units and divided once."""
    return Aggregation(Function.MEAN, windows, measure, empty, where)


def minimum(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Least amount; null over an empty window."""
    return Aggregation(Function.MIN, windows, measure)


def maximum(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Greatest amount; null over an empty window."""
    return Aggregation(Function.MAX, windows, measure)


def standard_deviation(measure: str, windows: tuple[Window, ...]) -> Aggregation:
    """Sample standard deviation of an amount (by n - 1); null below two events."""
    return Aggregation(Function.STD, windows, measure)


def share(where: Condition, windows: tuple[Window, ...], empty: float | None = None) -> Aggregation:
    """Share of the events that meet a condition."""
    return Aggregation(Function.SHARE, windows, empty=empty, where=where)


def distinct(column: str, windows: tuple[Window, ...]) -> Aggregation:
    """Number of different values of a text column."""
    return Aggregation(Function.DISTINCT, windows, column)


def fraud_rate(windows: tuple[Window, ...], empty: float | None = None) -> Aggregation:
    """Frauds over transactions with a label that was mature at the transaction's moment."""
    return Aggregation(Function.FRAUD_RATE, windows, empty=empty)


def fraud_count(windows: tuple[Window, ...]) -> Aggregation:
    """Number of transactions that were known to be frauds at the transaction's moment."""
    return Aggregation(Function.FRAUD_COUNT, windows)


def label_count(windows: tuple[Window, ...]) -> Aggregation:
    """Number of transactions with a label that was mature at the transaction's moment."""
    return Aggregation(Function.LABEL_COUNT, windows)


def seconds_since_last(windows: tuple[Window, ...]) -> Aggregation:
    """Seconds since the entity's last event inside the window; null when there is none."""
    return Aggregation(Function.SECONDS_SINCE_LAST, windows)


def seconds_between(windows: tuple[Window, ...]) -> Aggregation:
    """The usual gap: the window's length over its events; null over an empty window."""
    return Aggregation(Function.SECONDS_BETWEEN, windows)


def first_time(windows: tuple[Window, ...]) -> Aggregation:
    """1 when the window holds no earlier event of the entity, else 0."""
    return Aggregation(Function.FIRST_TIME, windows)


@dataclass(frozen=True)
class FeatureView:
    """Aggregations of one source's events per entity."""

    entity: Entity
    source: Source
    aggregations: tuple[Aggregation, ...]
    description: str

    def __post_init__(self) -> None:
        found = self.aggregations
        if not isinstance(found, tuple) or not all(isinstance(one, Aggregation) for one in found):
            raise DefinitionError(
                f"view of {self.entity.name}: its aggregations are no tuple of such as "
                "count(days(7)); one of a single aggregation ends with a comma"
            )
        if not found:
            raise DefinitionError(f"view of {self.entity.name}: it has no aggregations")
        if self.source is not TRANSACTIONS:
            raise DefinitionError(
                f"view of {self.entity.name}: events are {TRANSACTIONS.name}, not rows of "
                f"{self.source.name}; labels are what fraud_rate, fraud_count and label_count read"
            )
        wrong = [text for key in self.entity.keys for text in self._missing(key, "its key")]
        for aggregation in self.aggregations:
            wrong += self._wrong_columns(aggregation)
            wrong += [
                f"{aggregation.title}: a window of {window.suffix} reaches {window.lookback_days} "
                f"days back, beyond the {self.source.max_lookback_days} days that are read of "
                f"{self.source.name}"
                for window in aggregation.windows
                if window.lookback_days > self.source.max_lookback_days
            ]
        if wrong:
            raise DefinitionError(f"view of {self.entity.name}: {'; '.join(wrong)}")

    def _missing(self, column: str, what: str) -> list[str]:
        names = [known.name for known in self.source.columns]
        if column in names:
            return []
        return [f"{what}: {self.source.name} has no column {column!r}; it has: {', '.join(names)}"]

    def _wrong_columns(self, aggregation: Aggregation) -> list[str]:
        name, measure, where = aggregation.title, aggregation.measure, aggregation.where
        wrong = []
        if measure is not None:
            missing = self._missing(measure, name)
            wrong += missing or self._wrong_type(aggregation, measure)
        if where is not None:
            missing = self._missing(where.column, f"condition {where.name}")
            wrong += missing or self._wrong_comparison(where)
        return wrong

    def _wrong_type(self, aggregation: Aggregation, measure: str) -> list[str]:
        type_ = self.source.column(measure).type
        if aggregation.function is Function.DISTINCT:
            if type_ == "string" and measure not in self.entity.keys:
                return []
            return [f"distinct {measure} ({type_}): only texts that are no key of it are counted"]
        if type_.startswith("decimal"):
            return []
        name = aggregation.function.value
        return [f"{name} of {measure} ({type_}) is not exact; only decimal columns have one"]

    def _wrong_comparison(self, where: Condition) -> list[str]:
        type_ = self.source.column(where.column).type
        number = isinstance(where.value, int | Decimal)
        if (type_.startswith("decimal") and number) or (type_ == "string" and not number):
            return []
        return [
            f"condition {where.name}: {where.column} is {type_} and is not compared with "
            f"{where.value!r}; texts are compared with texts, decimals with numbers"
        ]

    @property
    def features(self) -> tuple[Feature, ...]:
        """One feature per aggregation and window."""
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


@dataclass(frozen=True)
class SequenceView:
    """The event sequence of an entity, as models read it.

    The context of a night is the entity's events since the start of the period of
    `period_days` (counted from 1970-01-01) before the one that holds the night, ordered by
    (`event_time`, `transaction_id`). A context longer than `max_events` is cut into blocks
    counted from its start, each warmed by the last `warm_up_events` of the one before.
    """

    entity: Entity
    period_days: int
    max_events: int
    warm_up_events: int
    columns: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.period_days < 1:
            raise DefinitionError(f"a period is at least 1 day, not {self.period_days}")
        if not 0 < self.warm_up_events < self.max_events:
            raise DefinitionError(
                f"warm_up_events ({self.warm_up_events}) lies between 1 and "
                f"max_events ({self.max_events})"
            )
        if len(set(self.columns)) != len(self.columns):
            raise DefinitionError("a sequence names the same column twice")
