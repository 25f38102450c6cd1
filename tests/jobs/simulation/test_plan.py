"""Plans are checked before Spark is asked for anything."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from feature_defs.errors import UsageError
from jobs.simulation.plan import SimulationPlan

GOOD: dict[str, Any] = {"out": "bank", "num_cards": 400, "num_days": 75, "seed": 7}


def test_days_run_from_the_first_to_the_last() -> None:
    plan = SimulationPlan(**GOOD)
    assert plan.days[0] == date(2024, 1, 1)
    assert plan.days[-1] == plan.last_day == date(2024, 3, 15)
    assert len(plan.days) == 75
    assert plan.num_weeks == 11


def test_merchants_are_derived_unless_given() -> None:
    assert SimulationPlan(**GOOD).num_merchants_in_all == 200
    assert SimulationPlan(**GOOD, num_merchants=30).num_merchants_in_all == 30


def test_every_cause_has_an_incident_a_week_unless_none_are_wanted() -> None:
    assert SimulationPlan(**{**GOOD, "num_cards": 20}).num_weekly_incidents == 1
    assert SimulationPlan(**GOOD, incidents_per_1000_cards=0).num_weekly_incidents == 0


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
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name) as caught:
        SimulationPlan(**{**GOOD, name: value})
    assert caught.value.exit_code == 2


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"num_cards is 0.*seed is -1"):
        SimulationPlan(**{**GOOD, "num_cards": 0, "seed": -1})
