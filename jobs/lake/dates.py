"""A range of business dates: the nights that a job works on, as days, as SQL and as a name."""

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
                f"The first date {self.first} is after the last date {self.last}.",
                expected="--from on or before --to.",
                remedy="swap the two dates.",
            )

    @property
    def num_nights(self) -> int:
        """Return the number of nights."""
        return (self.last - self.first).days + 1

    @property
    def days(self) -> tuple[date, ...]:
        """Return every date of the range, in order."""
        return tuple(self.first + timedelta(days=number) for number in range(self.num_nights))

    @property
    def sql(self) -> str:
        """Return a predicate on `business_date`. Dates contain no character that needs quoting."""
        return f"business_date >= DATE'{self.first}' AND business_date <= DATE'{self.last}'"

    @property
    def slug(self) -> str:
        """Return the range as a part of a file name or id: `first` or `first..last`."""
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"
