"""What one feature is: an entity, a function of a window's events, and a name that follows.

A window for a transaction at `t` is `(t - delay - length, t - delay]`: open at its start, closed
at its end. Events of the same key and instant are ordered by `transaction_id`, and a window with
no delay ends at the transaction itself, included.
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
    """What a feature's values are; the model's encoding and the report's words follow from it."""

    AMOUNT = "amount"
    COUNT = "count"
    RATE = "rate"
    PROBABILITY = "probability"
    RATIO = "ratio"
    DURATION_S = "duration_s"
    HOUR_OF_DAY = "hour_of_day"
    DAY_OF_WEEK = "day_of_week"


# Kinds that go round, with the length of a turn: none of their values is a multiple of another.
CYCLES = {Kind.HOUR_OF_DAY: 24.0, Kind.DAY_OF_WEEK: 7.0}


class Function(Enum):
    """How a window's events become one value."""

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
    # Made from other features, not from events.
    RATIO = "over"
    SMOOTHED = "smoothed"


LABEL_FUNCTIONS = frozenset({Function.FRAUD_RATE, Function.FRAUD_COUNT, Function.LABEL_COUNT})
MONEY_FUNCTIONS = frozenset({Function.SUM, Function.MEAN, Function.MIN, Function.MAX, Function.STD})
LAST_FUNCTIONS = frozenset({Function.SECONDS_SINCE_LAST, Function.FIRST_TIME})


def _is_word(name: str) -> bool:
    """Whether it can be a part of a feature's name."""
    return isinstance(name, str) and name.isidentifier() and name == name.lower()


@dataclass(frozen=True)
class Entity:
    """Whom a feature is about; the columns `keys` together identify one."""

    name: str
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _is_word(self.name):
            raise DefinitionError(
                f"entity {self.name!r}: its name begins names of features, so it is a word of "
                "small letters, digits and _"
            )
        if not isinstance(self.keys, tuple) or not self.keys:
            raise DefinitionError(
                f'entity {self.name}: its keys are a tuple of columns, such as ("card_id",), not '
                f"{self.keys!r}"
            )


CARD = Entity("card", ("card_id",))
MERCHANT = Entity("merchant", ("merchant_id",))
CARD_AT_MERCHANT = Entity("card_at_merchant", ("card_id", "merchant_id"))


@dataclass(frozen=True)
class Window:
    """`(t - delay - length, t - delay]` in days."""

    length_days: int
    delay_days: int = 0

    def __post_init__(self) -> None:
        for value in (self.length_days, self.delay_days):
            if not isinstance(value, int) or isinstance(value, bool):
                raise DefinitionError(f"a window is made of whole days, and {value!r} is none")
        if self.length_days < 1:
            raise DefinitionError(f"a window is at least 1 day long, not {self.length_days}")
        if self.delay_days < 0:
            raise DefinitionError(f"a delay is 0 days or more, not {self.delay_days}")

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


OPERATORS = ("<", "<=", ">", ">=", "==", "!=")


def _is_amount(value: Decimal) -> bool:
    """Whether an amount could be this, to the last digit."""
    if not value.is_finite() or value.adjusted() >= AMOUNT_DIGITS:
        return False
    return value == round(value, MONEY_SCALE)


@dataclass(frozen=True)
class Condition:
    """Which events count: those whose `column` compares like this; a null never does.

    `name` is the part of a feature's name that says so.
    """

    name: str
    column: str
    operator: str
    value: str | int | Decimal

    def __post_init__(self) -> None:
        if not _is_word(self.name):
            raise DefinitionError(
                f"condition {self.name!r}: its name is a word of small letters, digits and _, such "
                "as above_100"
            )
        if self.operator not in OPERATORS:
            raise DefinitionError(
                f"condition {self.name}: there is no operator {self.operator!r}; "
                f"there are {' '.join(OPERATORS)}"
            )
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | Decimal):
            raise DefinitionError(
                f"condition {self.name}: {self.value!r} is not exact; compare with a text, a whole "
                "number or a Decimal"
            )
        if not isinstance(self.value, str) and not _is_amount(Decimal(self.value)):
            raise DefinitionError(
                f"condition {self.name}: no amount can be {self.value}; they have up to "
                f"{AMOUNT_DIGITS} digits before the decimal point and {MONEY_SCALE} after it"
            )

    @property
    def exact_value(self) -> str:
        """The value as text, alike for numbers that are equal.

        >>> Condition("large", "amount", ">", Decimal("100.00")).exact_value
        '100'
        """
        if isinstance(self.value, str):
            return repr(self.value)
        return format(Decimal(self.value).normalize(), "f")


@dataclass(frozen=True)
class Feature:
    """One column of the table `features`.

    `window` is unset for what the transaction itself says (its amount, its hour) and for what is
    made from other features, its `parts`.
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
    # Rate and weight (in observations) that a smoothed rate begins with.
    prior: tuple[float, float] | None = None

    @property
    def type(self) -> str:
        """Spark SQL type of the column."""
        return "bigint" if self.kind is Kind.COUNT else "double"

    @property
    def lookback_days(self) -> int:
        """Days of input before a transaction that this feature needs."""
        own = self.window.lookback_days if self.window else 0
        return max([own, *(part.lookback_days for part in self.parts)])

    @property
    def reads_labels(self) -> bool:
        """Whether a label could change its value."""
        own = self.function in LABEL_FUNCTIONS
        return own or any(part.reads_labels for part in self.parts)

    @property
    def fingerprint(self) -> str:
        """Changes when, and only when, a value of this feature could change."""
        meaning: dict[str, object] = {
            "name": self.name,
            "kind": self.kind.value,
            "entity": _entity_meaning(self.entity),
            "source": self.source,
            "function": self.function.value if self.function else None,
            "measure": self.measure,
            "window": asdict(self.window) if self.window else None,
            "empty": self.empty,
            "money_scale": MONEY_SCALE,
        }
        # What only some features have is left out of the others, whose fingerprints stay.
        if self.where:
            meaning["where"] = [self.where.column, self.where.operator, self.where.exact_value]
        if self.parts:
            meaning["parts"] = [part.fingerprint for part in self.parts]
        if self.prior:
            meaning["prior"] = list(self.prior)
        text = json.dumps(meaning, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _entity_meaning(entity: Entity | None) -> dict[str, object] | None:
    if entity is None:
        return None
    (key, *more) = entity.keys
    return {"name": entity.name, "key": [key, *more] if more else key}
