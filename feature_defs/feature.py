"""What a feature is: an entity, a window, a function of the window's events, a derived name.

The window of a transaction at `t` is `(t - delay - length, t - delay]`: open at its start, closed
at its end. Events of the same key with the same time are ordered by `transaction_id`. A window
without a delay includes the transaction itself and nothing after it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from feature_defs.errors import DefinitionError
from feature_defs.sources import AMOUNT_DIGITS, MONEY_SCALE, TRANSACTIONS, Column
from feature_defs.windows import Window as Window


class Kind(Enum):
    """Kind of a feature's values; it decides the encoding for models and the report's wording."""

    AMOUNT = "amount"
    COUNT = "count"
    RATE = "rate"
    PROBABILITY = "probability"
    RATIO = "ratio"
    DURATION_S = "duration_s"
    HOUR_OF_DAY = "hour_of_day"
    DAY_OF_WEEK = "day_of_week"
    NUMBER = "number"
    DISTANCE_KM = "distance_km"
    SPEED_KMH = "speed_kmh"
    AGE_YEARS = "age_years"
    CATEGORY = "category"


# Cyclic kinds and their period; a ratio of their values has no meaning.
CYCLES = {Kind.HOUR_OF_DAY: 24.0, Kind.DAY_OF_WEEK: 7.0}


class Function(Enum):
    """How the events of a window become one value."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    STD = "std"
    SHARE = "share"
    DISTINCT = "distinct"
    FRAUD_RATE = "fraud_rate"
    FRAUD_COUNT = "fraud_count"
    LABEL_COUNT = "label_count"
    SECONDS_SINCE_LAST = "seconds_since_last"
    SECONDS_BETWEEN = "seconds_between"
    FIRST_TIME = "first_time"
    # These compare this event with the earlier ones.
    SAME_SHARE = "same_share"
    DEVIATION = "deviation"
    QUANTILE_RANK = "quantile_rank"
    HOUR_SHARE = "hour_share"
    KILOMETRES_SINCE_LAST = "kilometres_since_last"
    SPEED_SINCE_LAST = "speed_since_last"
    # Derived from other features, not from events.
    RATIO = "over"
    SMOOTHED = "smoothed"


LABEL_FUNCTIONS = frozenset({Function.FRAUD_RATE, Function.FRAUD_COUNT, Function.LABEL_COUNT})
# Functions whose value has the kind of their measure: an amount, an age, another number.
SAME_KIND_FUNCTIONS = frozenset(
    {Function.SUM, Function.MEAN, Function.MIN, Function.MAX, Function.STD}
)
NUMBER_FUNCTIONS = SAME_KIND_FUNCTIONS | {Function.DEVIATION, Function.QUANTILE_RANK}
TEXT_FUNCTIONS = frozenset({Function.DISTINCT, Function.SAME_SHARE})
PLACE_FUNCTIONS = frozenset({Function.KILOMETRES_SINCE_LAST, Function.SPEED_SINCE_LAST})
# Functions of the event just before this one.
LAST_FUNCTIONS = frozenset({Function.SECONDS_SINCE_LAST, Function.FIRST_TIME}) | PLACE_FUNCTIONS


def _is_name_part(name: str) -> bool:
    """Return whether the text may be part of a feature's name."""
    return isinstance(name, str) and name.isidentifier() and name == name.lower()


@dataclass(frozen=True)
class Entity:
    """What a feature describes; the columns `keys` together identify one card, merchant or pair."""

    name: str
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _is_name_part(self.name):
            raise DefinitionError(
                f"entity {self.name!r}: its name starts feature names; use lower-case letters, "
                "digits and _"
            )
        if not isinstance(self.keys, tuple) or not self.keys:
            raise DefinitionError(
                f'entity {self.name}: keys must be a tuple of columns, such as ("card_id",), not '
                f"{self.keys!r}"
            )

    @property
    def nullable_keys(self) -> tuple[str, ...]:
        """Return the keys that are attributes: a transaction may lack them."""
        always_there = {column.name for column in TRANSACTIONS.columns}
        return tuple(key for key in self.keys if key not in always_there)


CARD = Entity("card", ("card_id",))
MERCHANT = Entity("merchant", ("merchant_id",))
CARD_AT_MERCHANT = Entity("card_at_merchant", ("card_id", "merchant_id"))


OPERATORS = ("<", "<=", ">", ">=", "==", "!=")


def _is_amount(value: Decimal) -> bool:
    """Return whether an amount can have exactly this value."""
    if not value.is_finite() or value.adjusted() >= AMOUNT_DIGITS:
        return False
    return value == round(value, MONEY_SCALE)


@dataclass(frozen=True)
class Condition:
    """A filter of the events in a window: `column operator value`; a null never matches.

    `name` becomes part of the feature's name.
    """

    name: str
    column: str
    operator: str
    value: str | int | Decimal

    def __post_init__(self) -> None:
        if not _is_name_part(self.name):
            raise DefinitionError(
                f"condition {self.name!r}: use lower-case letters, digits and _, such as above_100"
            )
        if self.operator not in OPERATORS:
            raise DefinitionError(
                f"condition {self.name}: {self.operator!r} is not a valid operator; "
                f"use one of {' '.join(OPERATORS)}"
            )
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | Decimal):
            raise DefinitionError(
                f"condition {self.name}: {self.value!r} is not exact; use a text, an integer or a "
                "Decimal"
            )
        if not isinstance(self.value, str) and not _is_amount(Decimal(self.value)):
            raise DefinitionError(
                f"condition {self.name}: {self.value} is not a valid amount; amounts have up to "
                f"{AMOUNT_DIGITS} digits before the decimal point and {MONEY_SCALE} after it"
            )

    @property
    def exact_value(self) -> str:
        """Return the value as text; equal numbers give equal text.

        >>> Condition("large", "amount", ">", Decimal("100.00")).exact_value
        '100'
        """
        if isinstance(self.value, str):
            return repr(self.value)
        return format(Decimal(self.value).normalize(), "f")


@dataclass(frozen=True)
class Feature:
    """One column of the table `features`.

    `window` is `None` for features of the transaction itself (its amount, its hour) and for
    features derived from other features, their `parts`.
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
    where: Condition | None = None
    parts: tuple[Feature, ...] = ()
    # Prior of a smoothed rate: its rate, and its weight in transactions.
    prior: tuple[float, float] | None = None
    # Digits after the decimal point with which the measure is summed.
    scale: int = MONEY_SCALE
    # Columns of `transactions` that the feature reads and that not every lake has.
    attributes: tuple[Column, ...] = ()

    @property
    def type(self) -> str:
        """Return the Spark SQL type of the column."""
        return {Kind.COUNT: "bigint", Kind.CATEGORY: "string"}.get(self.kind, "double")

    @property
    def lookback_days(self) -> int:
        """Return how many days of input before a transaction this feature needs."""
        own = self.window.lookback_days if self.window else 0
        return max([own, *(part.lookback_days for part in self.parts)])

    @property
    def reads_labels(self) -> bool:
        """Return whether a label can change the feature's value."""
        own = self.function in LABEL_FUNCTIONS
        return own or any(part.reads_labels for part in self.parts)

    @property
    def needed_attributes(self) -> tuple[Column, ...]:
        """Return the attributes that the feature and its parts read, by name."""
        of_parts = (column for part in self.parts for column in part.needed_attributes)
        needed = {column.name: column for column in (*self.attributes, *of_parts)}
        return tuple(needed[name] for name in sorted(needed))

    @property
    def is_nullable_measure(self) -> bool:
        """Return whether events may have no value of the measure."""
        return any(column.name == self.measure for column in self.attributes)

    @property
    def has_nullable_key(self) -> bool:
        """Return whether transactions may have no such entity; the feature is then null."""
        return bool(self.entity and self.entity.nullable_keys)

    @property
    def fingerprint(self) -> str:
        """Return a hash that changes when, and only when, the feature's values may change.

        Descriptions and the name of a condition are not part of it.
        """
        identity: dict[str, object] = {
            "name": self.name,
            "kind": self.kind.value,
            "entity": _entity_identity(self.entity),
            "source": self.source,
            "function": self.function.value if self.function else None,
            "measure": self.measure,
            "window": self.window.identity if self.window else None,
            "empty": self.empty,
            "money_scale": MONEY_SCALE,
        }
        # Unset options are left out, so a new option does not change the fingerprints of other
        # features.
        if self.where:
            identity["where"] = [self.where.column, self.where.operator, self.where.exact_value]
        if self.parts:
            identity["parts"] = [part.fingerprint for part in self.parts]
        if self.prior:
            identity["prior"] = list(self.prior)
        if self.scale != MONEY_SCALE:
            identity["scale"] = self.scale
        text = json.dumps(identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _entity_identity(entity: Entity | None) -> dict[str, object] | None:
    if entity is None:
        return None
    (key, *more) = entity.keys
    return {"name": entity.name, "key": [key, *more] if more else key}
