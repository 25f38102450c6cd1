"""When a label counts: the clocks that separate what is known from what will be.

A label is mature at `T` when its `label_time` is not after `T`; the label of a transaction at
`T` is the latest mature one. Only mature labels train or judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime


def known_before(day: date) -> datetime:
    """The moment up to which a job that runs "as of" a day may know things: its 00:00 UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@dataclass(frozen=True)
class LabelPolicy:
    """What the absence of a label means.

    With `maturity_days` unset absence means "not known yet" (labels are complete); otherwise
    a transaction without a label counts as genuine that many days after it happened.
    """

    maturity_days: int | None = None


# Labels of the last week are rarely complete, so the windows end a week before the transaction.
LABEL_DELAY_DAYS = 7
