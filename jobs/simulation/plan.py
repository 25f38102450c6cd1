"""What to simulate: the one argument of `simulate`, checked on construction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from feature_defs.errors import UsageError

# Two cards a merchant gives each merchant about four payments a day, enough for a fraud rate
# over a week to mean something and few enough for tail merchants to be quiet.
CARDS_PER_MERCHANT = 2
# Below this a category may be left without a merchant.
LEAST_MERCHANTS = 24
LEAST_CARDS = 20
MOST_CARDS = 100_000_000
# The first genuine payments are confirmed after a week; a shorter bank might have no label at all,
# and a table without a row has no file to say which columns it would have.
LEAST_DAYS = 8
MOST_DAYS = 3_660
EARLIEST = date(1970, 1, 1)
LATEST = date(9000, 1, 1)
SEEDS = 2**63


@dataclass(frozen=True)
class SimulationPlan:
    """A bank of `num_cards` cards for `num_days` days from `first_day`.

    The same plan gives the same rows on any machine. A longer plan with the same seed repeats
    the shorter one's payments and goes on from there.

        >>> SimulationPlan(out="bank", num_cards=400, num_days=75, seed=7).last_day
        datetime.date(2024, 3, 15)

    Raises:
        UsageError: a value is out of range; all of them are named.
    """

    out: str
    """Folder or URI to write to."""
    num_cards: int
    num_days: int
    seed: int
    first_day: date = date(2024, 1, 1)
    num_merchants: int | None = None
    """Unset: one for every two cards."""
    incidents_per_1000_cards: float = 2.5
    """Fraud incidents a week of each cause, per 1,000 cards; at least one a week unless 0."""
    late_share: float = 0.005
    """Share of transactions delivered one to three days after they happened."""
    defect_share: float = 0.0005
    """Share of transactions delivered with a defect."""

    def __post_init__(self) -> None:
        wrong = [
            f"{name} is {value}, not {allowed}"
            for name, value, allowed, holds in self._checks()
            if not holds
        ]
        if wrong:
            raise UsageError(
                f"This bank cannot be simulated: {'; '.join(wrong)}.",
                expected="every value in its range.",
                remedy="correct what is named here.",
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
        """Last day simulated and last delivery."""
        return self.first_day + timedelta(days=self.num_days - 1)

    @property
    def days(self) -> tuple[date, ...]:
        """All deliveries' dates, in order."""
        return tuple(self.first_day + timedelta(days=day) for day in range(self.num_days))

    @property
    def num_weeks(self) -> int:
        """Weeks that have at least one simulated day."""
        return math.ceil(self.num_days / 7)

    @cached_property
    def num_merchants_in_all(self) -> int:
        """Merchants there are, given or derived."""
        if self.num_merchants is not None:
            return self.num_merchants
        return max(LEAST_MERCHANTS, self.num_cards // CARDS_PER_MERCHANT)

    @property
    def num_weekly_incidents(self) -> int:
        """Incidents of each cause that start in a week.

        >>> SimulationPlan(out="bank", num_cards=5000, num_days=90, seed=1).num_weekly_incidents
        12
        """
        if self.incidents_per_1000_cards == 0:
            return 0
        return max(1, round(self.num_cards * self.incidents_per_1000_cards / 1000))
