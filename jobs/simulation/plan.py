"""The plan of a simulation: the only argument of `simulate`, validated on construction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from feature_defs.errors import UsageError

# Two cards per merchant give about four payments per merchant and day: enough for a weekly fraud
# rate, and few enough that unpopular merchants have little traffic.
CARDS_PER_MERCHANT = 2
# With fewer merchants a category could have none.
LEAST_MERCHANTS = 24
LEAST_CARDS = 20
MOST_CARDS = 100_000_000
# Genuine payments are confirmed after a week. A shorter simulation could have no label, and an
# empty table has no file and so no schema.
LEAST_DAYS = 8
MOST_DAYS = 3_660
EARLIEST = date(1970, 1, 1)
LATEST = date(9000, 1, 1)
SEEDS = 2**63


@dataclass(frozen=True)
class SimulationPlan:
    """A bank of `num_cards` cards for `num_days` days from `first_day`.

    Equal plans give equal rows on any machine. A longer plan with the same seed contains the
    payments of the shorter one.

        >>> SimulationPlan(out="bank", num_cards=400, num_days=75, seed=7).last_day
        datetime.date(2024, 3, 15)

    Raises:
        UsageError: values are out of range; all of them are named.
    """

    out: str
    """Folder or URI to write to."""
    num_cards: int
    num_days: int
    seed: int
    first_day: date = date(2024, 1, 1)
    num_merchants: int | None = None
    """By default one per two cards."""
    incidents_per_1000_cards: float = 2.5
    """Fraud incidents per week and cause, per 1,000 cards; at least one per week unless 0."""
    late_share: float = 0.005
    """Share of transactions delivered one to three days after they happened."""
    defect_share: float = 0.0005
    """Share of transactions delivered with a defect."""

    def __post_init__(self) -> None:
        wrong = [
            f"{name} is {value}, not {allowed}"
            for name, value, allowed, is_valid in self._checks()
            if not is_valid
        ]
        if wrong:
            raise UsageError(
                f"The simulation plan is invalid: {'; '.join(wrong)}.",
                expected="every value within its range.",
                remedy="correct the values named above.",
            )

    def _checks(self) -> list[tuple[str, object, str, bool]]:
        merchants = self.num_merchants_in_all
        return [
            ("out", repr(self.out), "a path or URI", bool(self.out.strip())),
            (
                "num_cards",
                self.num_cards,
                f"{LEAST_CARDS} to {MOST_CARDS}",
                LEAST_CARDS <= self.num_cards <= MOST_CARDS,
            ),
            (
                "num_days",
                self.num_days,
                f"{LEAST_DAYS} to {MOST_DAYS}",
                LEAST_DAYS <= self.num_days <= MOST_DAYS,
            ),
            ("seed", self.seed, "0 to 2**63 - 1", 0 <= self.seed < SEEDS),
            (
                "first_day",
                self.first_day,
                f"{EARLIEST} to {LATEST}",
                EARLIEST <= self.first_day <= LATEST,
            ),
            (
                "num_merchants",
                merchants,
                f"{LEAST_MERCHANTS} to {MOST_CARDS}",
                LEAST_MERCHANTS <= merchants <= MOST_CARDS,
            ),
            (
                "incidents_per_1000_cards",
                self.incidents_per_1000_cards,
                "0 to 100",
                0 <= self.incidents_per_1000_cards <= 100,
            ),
            ("late_share", self.late_share, "0 to 1", 0 <= self.late_share <= 1),
            ("defect_share", self.defect_share, "0 to 1", 0 <= self.defect_share <= 1),
        ]

    @property
    def last_day(self) -> date:
        """Return the last simulated day, which is the last delivery."""
        return self.first_day + timedelta(days=self.num_days - 1)

    @property
    def days(self) -> tuple[date, ...]:
        """Return the dates of all deliveries, in order."""
        return tuple(self.first_day + timedelta(days=day) for day in range(self.num_days))

    @property
    def num_weeks(self) -> int:
        """Return the number of weeks with at least one simulated day."""
        return math.ceil(self.num_days / 7)

    @cached_property
    def num_merchants_in_all(self) -> int:
        """Return the number of merchants, set or derived from the number of cards."""
        if self.num_merchants is not None:
            return self.num_merchants
        return max(LEAST_MERCHANTS, self.num_cards // CARDS_PER_MERCHANT)

    @property
    def num_weekly_incidents(self) -> int:
        """Return how many incidents of each cause start in a week.

        >>> SimulationPlan(out="bank", num_cards=5000, num_days=90, seed=1).num_weekly_incidents
        12
        """
        if self.incidents_per_1000_cards == 0:
            return 0
        return max(1, round(self.num_cards * self.incidents_per_1000_cards / 1000))
