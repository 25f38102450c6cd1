"""Merchants: their categories, opening hours and popularity.

Merchants are numbered by category and, within a category, by falling popularity. A merchant's
category and rank follow from its number, so no table of merchants is stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from pyspark.sql import Column
from pyspark.sql import functions as F

from jobs.simulation.plan import SimulationPlan

# Rank in the category = size * uniform ** skew: the top tenth receives a fifth of the payments.
POPULARITY_SKEW = 1.4


@dataclass(frozen=True)
class Category:
    """A merchant category. Hours are UTC; `closes` is at most 24."""

    name: str
    weight: float
    """Share of all ordinary payments; the shares add up to 1."""
    amount_factor: float
    """Factor on the card's typical amount."""
    opens: float
    closes: float
    online_share: float


CATEGORIES = (
    Category("grocery", 0.24, 1.1, 7, 21, 0.05),
    Category("restaurant", 0.16, 0.9, 11, 23, 0.05),
    Category("fuel", 0.09, 1.5, 5, 23, 0.0),
    Category("transport", 0.10, 0.35, 5, 24, 0.40),
    Category("pharmacy", 0.06, 0.7, 8, 20, 0.05),
    Category("clothing", 0.08, 1.7, 9, 20, 0.35),
    Category("household", 0.06, 1.6, 9, 20, 0.30),
    Category("entertainment", 0.06, 0.8, 10, 24, 0.45),
    Category("health", 0.03, 1.6, 8, 18, 0.05),
    Category("electronics", 0.04, 2.3, 9, 21, 0.50),
    Category("travel", 0.03, 2.5, 6, 24, 0.80),
    Category("online_gaming", 0.05, 0.5, 0, 24, 1.0),
)


def by_category(values: Sequence[float | str], category: Column) -> Column:
    """Return the value for a category, by its position in `CATEGORIES`."""
    return F.get(F.array(*(F.lit(value) for value in values)), category)


def ordinary_category(uniform: Column) -> Column:
    """Draw the position of a category, with the weights of `CATEGORIES`."""
    *bounds, _ = accumulate(category.weight for category in CATEGORIES)
    last = len(CATEGORIES) - 1
    picked = F.lit(last)
    for position, bound in reversed(list(enumerate(bounds))):
        picked = F.when(uniform < F.lit(bound), F.lit(position)).otherwise(picked)
    return picked


def category_among(names: Sequence[str], uniform: Column) -> Column:
    """Draw one of these categories, all equally likely; return its position in `CATEGORIES`."""
    positions = {category.name: position for position, category in enumerate(CATEGORIES)}
    wanted = F.array(*(F.lit(positions[name]) for name in names))
    return F.get(wanted, F.floor(uniform * F.lit(len(names))).cast("int"))


@dataclass(frozen=True)
class Merchants:
    """All merchants of a simulated bank."""

    plan: SimulationPlan

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Return the number of merchants per category, by weight and at least one."""
        total = self.plan.num_merchants_in_all - len(CATEGORIES)
        bounds = [round(total * share) for share in accumulate(c.weight for c in CATEGORIES)]
        bounds[-1] = total
        return tuple(1 + high - low for low, high in zip([0, *bounds], bounds, strict=False))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Return the number of the most popular merchant of each category."""
        return tuple(accumulate(self.sizes[:-1], initial=0))

    def popular(self, category: Column, uniform: Column) -> Column:
        """Draw the number of a merchant of a category; popular merchants are more likely."""
        return self._at(category, F.pow(uniform, F.lit(POPULARITY_SKEW)))

    def obscure(self, category: Column, uniform: Column) -> Column:
        """Draw the number of a merchant in the less popular half of a category."""
        return self._at(category, F.lit(1.0) - uniform * F.lit(0.5) - F.lit(1e-9))

    def _at(self, category: Column, position: Column) -> Column:
        rank = F.floor(by_category([float(size) for size in self.sizes], category) * position)
        return by_category(self.starts, category) + rank

    def payments_a_day(self, merchant: Column, category: Column, in_all: float) -> Column:
        """Return the expected ordinary payments a day of a merchant; the bank has `in_all`."""
        size = by_category([float(size) for size in self.sizes], category)
        rank = merchant - by_category(self.starts, category)
        below = F.pow(rank / size, F.lit(1 / POPULARITY_SKEW))
        up_to = F.pow((rank + F.lit(1)) / size, F.lit(1 / POPULARITY_SKEW))
        weight = by_category([c.weight for c in CATEGORIES], category)
        return F.lit(in_all) * weight * (up_to - below)


def opening_second(category: Column, hour: Column, uniform: Column) -> Column:
    """Return the second of the day of a payment at `hour`, moved into opening hours if needed."""
    opens = by_category([float(c.opens) for c in CATEGORIES], category)
    closes = by_category([float(c.closes) for c in CATEGORIES], category)
    open_then = (hour >= opens) & (hour < closes)
    moved = F.when(open_then, hour).otherwise(opens + uniform * (closes - opens))
    return F.floor(moved * F.lit(3600.0))


def merchant_id(merchant: Column) -> Column:
    """Return the merchant id in deliveries: `merchant-` and nine digits."""
    return F.concat(F.lit("merchant-"), F.lpad(merchant.cast("string"), 9, "0"))
