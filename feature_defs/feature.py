"""What a feature is: an entity, a window, a function of the window's events, a derived name.

The window of a transaction at `t` is `(t - delay - length, t - delay]`: open at its start, closed
at its end. Events of the same key with the same time are ordered by `transaction_id`. A window
without a delay includes the transaction itself and nothing after it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import Enum

from feature_defs.errors import DefinitionError
from feature_defs.sources import AMOUNT_DIGITS, MONEY_SCALE


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
    # Derived from other features, not from events.
    RATIO = "over"
    SMOOTHED = "smoothed"


LABEL_FUNCTIONS = frozenset({Function.FRAUD_RATE, Function.FRAUD_COUNT, Function.LABEL_COUNT})
MONEY_FUNCTIONS = frozenset({Function.SUM, Function.MEAN, Function.MIN, Function.MAX, Function.STD})
LAST_FUNCTIONS = frozenset({Function.SECONDS_SINCE_LAST, Function.FIRST_TIME})


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


CARD = Entity("card", ("card_id",))
MERCHANT = Entity("merchant", ("merchant_id",))
CARD_AT_MERCHANT = Entity("card_at_merchant", ("card_id", "merchant_id"))


@dataclass(frozen=True)
class Window:
    """The window `(t - delay - length, t - delay]` of a transaction at `t`, in whole days."""

    length_days: int
    delay_days: int = 0

    def __post_init__(self) -> None:
        for value in (self.length_days, self.delay_days):
            if not isinstance(value, int) or isinstance(value, bool):
                raise DefinitionError(f"a window has whole days: {value!r} is not an integer")
        if self.length_days < 1:
            raise DefinitionError(f"a window must be at least 1 day long, not {self.length_days}")
        if self.delay_days < 0:
            raise DefinitionError(f"a delay must be 0 days or more, not {self.delay_days}")

    @property
    def suffix(self) -> str:
        """Return the part of a feature's name that stands for this window.

        >>> Window(7).suffix, Window(30, delay_days=7).suffix
        ('7d', '30d_delay_7d')
        """
        delay = f"_delay_{self.delay_days}d" if self.delay_days else ""
        return f"{self.length_days}d{delay}"

    @property
    def lookback_days(self) -> int:
        """Return how many days before the transaction the window starts."""
        return self.length_days + self.delay_days


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
            "window": asdict(self.window) if self.window else None,
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
        text = json.dumps(identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _entity_identity(entity: Entity | None) -> dict[str, object] | None:
    if entity is None:
        return None
    (key, *more) = entity.keys
    return {"name": entity.name, "key": [key, *more] if more else key}
