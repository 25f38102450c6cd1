"""Simulation plans are validated on construction, before Spark is used."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from feature_defs.errors import UsageError
from jobs.simulation.plan import SimulationPlan

VALID: dict[str, Any] = {"out": "bank", "num_cards": 400, "num_days": 75, "seed": 7}


def test_plan_days_run_from_first_to_last_day() -> None:
    plan = SimulationPlan(**VALID)
    assert plan.days[0] == date(2024, 1, 1)
    assert plan.days[-1] == plan.last_day == date(2024, 3, 15)
    assert len(plan.days) == 75
    assert plan.num_weeks == 11


def test_number_of_merchants_is_derived_by_default() -> None:
    assert SimulationPlan(**VALID).num_merchants_in_all == 200
    assert SimulationPlan(**VALID, num_merchants=30).num_merchants_in_all == 30


def test_weekly_incidents_are_at_least_one_unless_disabled() -> None:
    assert SimulationPlan(**{**VALID, "num_cards": 20}).num_weekly_incidents == 1
    assert SimulationPlan(**VALID, incidents_per_1000_cards=0).num_weekly_incidents == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("out", " "),
        ("num_cards", 19),
        ("num_days", 7),
        ("seed", -1),
        ("first_day", date(1969, 12, 31)),
        ("num_merchants", 23),
        ("incidents_per_1000_cards", -0.1),
        ("late_share", 1.1),
        ("defect_share", float("nan")),
    ],
)
def test_value_out_of_range_is_refused_with_its_name(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        SimulationPlan(**{**VALID, name: value})
    assert caught.value.exit_code == 2


def test_all_invalid_values_are_reported_at_once() -> None:
    with pytest.raises(UsageError, match=r"num_cards is 0.*seed is -1"):
        SimulationPlan(**{**VALID, "num_cards": 0, "seed": -1})
