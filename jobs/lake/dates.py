"""A range of business dates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from feature_defs.errors import UsageError


@dataclass(frozen=True)
class Dates:
    """Business dates from `first` to `last`, both included."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise UsageError(
                f"The first date {self.first} lies after the last {self.last}.",
                expected="--from on or before --to.",
                remedy="swap them.",
            )

    @property
    def num_nights(self) -> int:
        """How many nights these are."""
        return (self.last - self.first).days + 1

    @property
    def days(self) -> tuple[date, ...]:
        """Each of them, in order."""
        return tuple(self.first + timedelta(days=number) for number in range(self.num_nights))

    @property
    def sql(self) -> str:
        """Predicate on `business_date`; dates have no character that could need quoting."""
        return f"business_date >= DATE'{self.first}' AND business_date <= DATE'{self.last}'"

    @property
    def slug(self) -> str:
        """The dates as a part of a name."""
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"
