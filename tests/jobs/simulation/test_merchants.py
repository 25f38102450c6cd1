"""Merchants are numbered by category and popularity."""

from __future__ import annotations

import pytest

from jobs.simulation.merchants import CATEGORIES, Merchants
from jobs.simulation.plan import SimulationPlan


def test_category_weights_add_up_to_one() -> None:
    assert sum(category.weight for category in CATEGORIES) == pytest.approx(1)
    assert len({category.name for category in CATEGORIES}) == len(CATEGORIES)


@pytest.mark.parametrize("num_merchants", [24, 25, 199, 100_000])
def test_merchants_are_split_over_all_categories(num_merchants: int) -> None:
    plan = SimulationPlan(
        out="bank", num_cards=100, num_days=10, seed=1, num_merchants=num_merchants
    )
    merchants = Merchants(plan)
    assert sum(merchants.sizes) == num_merchants
    assert min(merchants.sizes) >= 1
    assert merchants.starts[0] == 0
    assert merchants.starts[-1] + merchants.sizes[-1] == num_merchants
