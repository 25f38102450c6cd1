"""The language features are declared in: frozen data, checked on construction.

Names are derived from definitions, so none can lie about its window. A window for a transaction
at `t` is `(t - delay - length, t - delay]`: open at its start, closed at its end. Events of the
same key and instant are ordered by `transaction_id`, and a window with no delay ends at the
transaction itself, included.

    CARD_SPEND = FeatureView(
        entity=CARD,
        source=TRANSACTIONS,
        aggregations=(count(days(1, 7, 30)), mean("amount", days(1, 7, 30))),
        description="How often and how much the card spent up to this transaction.",
    )
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import Enum

from feature_defs.sources import MONEY_SCALE, Source


class Kind(Enum):
    """What a feature's values are; the model's encoding and the report's words follow from it."""

    AMOUNT = "amount"
    COUNT = "count"
    RATE = "rate"
    DURATION_S = "duration_s"
    HOUR_OF_DAY = "hour_of_day"
    DAY_OF_WEEK = "day_of_week"


class Function(Enum):
    """How a window's events become one value."""

    COUNT = "count"
    MEAN = "mean"
    FRAUD_RATE = "fraud_rate"
    SECONDS_SINCE_LAST = "seconds_since_last"


@dataclass(frozen=True)
class Entity:
    """Whom a feature is about; `key` is the column that identifies one."""

    name: str
    key: str


CARD = Entity("card", "card_id")
MERCHANT = Entity("merchant", "merchant_id")


@dataclass(frozen=True)
class Window:
    """`(t - delay - length, t - delay]` in days."""

    length_days: int
    delay_days: int = 0

    def __post_init__(self) -> None:
        if self.length_days < 1:
            raise ValueError(f"a window is at least 1 day long, not {self.length_days}")
        if self.delay_days < 0:
            raise ValueError(f"a delay is 0 days or more, not {self.delay_days}")

    @property
    def suffix(self) -> str:
        """The part of a feature's name that this window gives.

        >>> Window(7).suffix, Window(30, delay_days=7).suffix
        ('7d', '30d_delay_7d')
        """
        delay = f"_delay_{self.delay_days}d" if self.delay_days else ""
        return f"{self.length_days}d{delay}"

    @property
    def lookback_days(self) -> int:
        """Days of input before a transaction that the window reaches into."""
        return self.length_days + self.delay_days


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

    def __post_init__(self) -> None:
        if not self.windows:
            raise ValueError(f"{self.function.value} needs at least one window")
        if len(set(self.windows)) != len(self.windows):
            raise ValueError(f"{self.function.value} names the same window twice")
        if (self.function is Function.MEAN) != (self.measure is not None):
            raise ValueError(
                f"{self.function.value} and measure {self.measure!r} do not go together"
            )
        if self.function is Function.FRAUD_RATE and any(w.delay_days == 0 for w in self.windows):
            raise ValueError(
                "a fraud rate needs a delay: labels of the last days are not known at the "
                "transaction's moment; give days(..., delay=N)"
            )
        if self.function is Function.SECONDS_SINCE_LAST and any(w.delay_days for w in self.windows):
            raise ValueError("seconds_since_last has no delay: it looks at the event just before")


def count(windows: tuple[Window, ...]) -> Aggregation:
    """Number of events."""
    return Aggregation(Function.COUNT, windows)


def mean(measure: str, windows: tuple[Window, ...], empty: float | None = None) -> Aggregation:
    """Mean of an amount, exact: summed in integer minor units and divided once."""
    return Aggregation(Function.MEAN, windows, measure, empty)


def fraud_rate(windows: tuple[Window, ...], empty: float | None = None) -> Aggregation:
    """Frauds over transactions with a label that was mature at the transaction's moment."""
    return Aggregation(Function.FRAUD_RATE, windows, empty=empty)


def seconds_since_last(windows: tuple[Window, ...]) -> Aggregation:
    """Seconds since the entity's last event inside the window; null when there is none."""
    return Aggregation(Function.SECONDS_SINCE_LAST, windows)


KIND_OF_FUNCTION = {
    Function.COUNT: Kind.COUNT,
    Function.MEAN: Kind.AMOUNT,
    Function.FRAUD_RATE: Kind.RATE,
    Function.SECONDS_SINCE_LAST: Kind.DURATION_S,
}


@dataclass(frozen=True)
class Feature:
    """One column of the table `features`.

    `window` is unset for what the transaction itself says (its amount, its hour).
    """

    name: str
    kind: Kind
    description: str
    entity: Entity | None = None
    source: str = "transactions"
    function: Function | None = None
    measure: str | None = None
    window: Window | None = None
    empty: float | None = None

    @property
    def type(self) -> str:
        """Spark SQL type of the column."""
        return "bigint" if self.kind is Kind.COUNT else "double"

    @property
    def lookback_days(self) -> int:
        """Days of input before a transaction that this feature needs."""
        return self.window.lookback_days if self.window else 0

    @property
    def fingerprint(self) -> str:
        """Changes when, and only when, a value of this feature could change."""
        meaning = asdict(self)
        del meaning["description"]
        meaning["kind"] = self.kind.value
        meaning["function"] = self.function.value if self.function else None
        meaning["money_scale"] = MONEY_SCALE
        text = json.dumps(meaning, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class FeatureView:
    """Aggregations of one source's events per entity."""

    entity: Entity
    source: Source
    aggregations: tuple[Aggregation, ...]
    description: str

    def __post_init__(self) -> None:
        self.source.column(self.entity.key)
        for aggregation in self.aggregations:
            if aggregation.measure is None:
                continue
            column = self.source.column(aggregation.measure)
            if not column.type.startswith("decimal"):
                raise ValueError(
                    f"{self.entity.name}: {aggregation.function.value} of {column.name} "
                    f"({column.type}) is not exact; only decimal columns have a mean"
                )

    @property
    def features(self) -> tuple[Feature, ...]:
        """One feature per aggregation and window."""
        return tuple(
            self._feature(aggregation, window)
            for aggregation in self.aggregations
            for window in aggregation.windows
        )

    def _feature(self, aggregation: Aggregation, window: Window) -> Feature:
        parts = [self.entity.name, aggregation.measure, aggregation.function.value, window.suffix]
        return Feature(
            name="_".join(part for part in parts if part),
            kind=KIND_OF_FUNCTION[aggregation.function],
            description=self.description,
            entity=self.entity,
            source=self.source.name,
            function=aggregation.function,
            measure=aggregation.measure,
            window=window,
            empty=aggregation.empty,
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
            raise ValueError(f"a period is at least 1 day, not {self.period_days}")
        if not 0 < self.warm_up_events < self.max_events:
            raise ValueError(
                f"warm_up_events ({self.warm_up_events}) lies between 1 and "
                f"max_events ({self.max_events})"
            )
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("a sequence names the same column twice")
