"""The columns of an entity's stream, and which of them each feature is made from.

Every row adds whole numbers to running sums, so a window's sum is a difference of two of them,
exact wherever batches, partitions or the stream begin. No Spark here, and no data.
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

# Columns of a stream beside those of its group, its sums and its extremes.
TIME, CORRECTS, LAST = "_time", "_corrects", "_last"
# Whether a row's features are wanted; whether it is the first of its group.
ASKED, START = "_asked", "_start"
# A row that corrects no window; the time of a row that is no event, which is before all others.
NO_WINDOW, NO_EVENT = -1, -(2**61)
# The extreme amounts of a row that is no event: no amount comes near.
NO_LEAST, NO_GREATEST = 2**62, -(2**62)
# A square is summed in three parts, so that half a million of the largest amounts fit.
LIMB_BITS = 22


@dataclass(frozen=True)
class Sum:
    """A column that is summed: what is added for which events."""

    # events | money | square_high | square_middle | square_low | judged | frauds | begun | ended
    what: str
    measure: str | None = None
    where: Condition | None = None
    # The label's delay, or the window in which a value counts once.
    num_days: int | None = None

    @property
    def column(self) -> str:
        """Its name in the stream."""
        condition = self.where.name if self.where else None
        length = f"{self.num_days}d" if self.num_days is not None else None
        return "_" + "_".join(part for part in (self.what, self.measure, condition, length) if part)


EVENTS = Sum("events")


def sums_of(feature: Feature) -> tuple[Sum, ...]:
    """What a feature is computed from, in the order in which its formula names it."""
    measure, where, window = feature.measure, feature.where, feature.window
    assert window is not None
    delay, length = window.delay_days, window.length_days
    number, money = Sum("events", where=where), Sum("money", measure, where)
    squares = (Sum(f"square_{part}", measure) for part in ("high", "middle", "low"))
    judged, frauds = Sum("judged", num_days=delay), Sum("frauds", num_days=delay)
    table: dict[Function, tuple[Sum, ...]] = {
        Function.COUNT: (number,),
        Function.SUM: (money,),
        Function.MEAN: (number, money),
        Function.SHARE: (EVENTS, number),
        Function.STD: (EVENTS, money, *squares),
        Function.FRAUD_RATE: (judged, frauds),
        Function.FRAUD_COUNT: (frauds,),
        Function.LABEL_COUNT: (judged,),
        Function.SECONDS_BETWEEN: (EVENTS,),
        Function.DISTINCT: (
            Sum("begun", measure, num_days=length),
            Sum("ended", measure, num_days=length),
        ),
    }
    return table.get(feature.function, ()) if feature.function else ()


def least(measure: str) -> str:
    """Column of the least amount that a row stands for."""
    return f"_least_{measure}"


def greatest(measure: str) -> str:
    """Column of the greatest amount that a row stands for."""
    return f"_greatest_{measure}"


@dataclass(frozen=True)
class StreamPlan:
    """What a stream's columns are, and what is made of them."""

    keys: tuple[str, ...]
    # Tells the parts of a busy key apart.
    slice: str
    features: tuple[Feature, ...]

    @property
    def group(self) -> tuple[str, ...]:
        """Rows that are alike in these are in order and belong together."""
        return (*self.keys, self.slice)

    @property
    def corrected(self) -> tuple[Window, ...]:
        """Windows over labels: a label that comes late corrects them, by their place in here."""
        found = {f.window for f in self.features if f.window and f.function in LABEL_FUNCTIONS}
        return tuple(sorted(found, key=lambda w: (w.delay_days, w.length_days)))

    @property
    def sums(self) -> tuple[Sum, ...]:
        """Columns that are summed, each once."""
        return tuple(dict.fromkeys(needed for f in self.features for needed in sums_of(f)))

    @property
    def minima(self) -> tuple[str, ...]:
        """Amounts whose least is wanted."""
        return self._measures(Function.MIN)

    @property
    def maxima(self) -> tuple[str, ...]:
        """Amounts whose greatest is wanted."""
        return self._measures(Function.MAX)

    def _measures(self, function: Function) -> tuple[str, ...]:
        found = (f.measure for f in self.features if f.function is function and f.measure)
        return tuple(dict.fromkeys(found))

    @property
    def distinct(self) -> tuple[str, ...]:
        """Columns whose different values are counted."""
        return self._measures(Function.DISTINCT)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Columns of whole numbers that a pass reads."""
        corrects = (CORRECTS,) if self.corrected else ()
        last = (LAST,) if any(f.function in LAST_FUNCTIONS for f in self.features) else ()
        sums = (summed.column for summed in self.sums)
        extremes = (*map(least, self.minima), *map(greatest, self.maxima))
        return (TIME, *corrects, *last, *sums, *extremes)

    @property
    def read(self) -> tuple[str, ...]:
        """All columns that a pass reads."""
        return (START, ASKED, *self.numbers)

    @property
    def reach(self) -> int:
        """Microseconds before a row that its windows can reach."""
        return max(f.lookback_days for f in self.features) * MICROS_PER_DAY
