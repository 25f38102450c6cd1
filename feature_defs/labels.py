"""How labels mature: from which moment a label may be used.

Every label has a `label_time`, the moment at which it became known. A label is mature at a moment
`T` when its `label_time` is not after `T`. The label of a transaction at `T` is its latest mature
label; of two labels with the same `label_time` the fraud label counts. Training, evaluation and
label features use mature labels only, so no result depends on what was learned later.

What a missing label means depends on the completeness that the mapping of a delivery declares:

- `complete`: every transaction gets a label in the end, so a missing label means "not known yet".
- `frauds_only` with `maturity_days`: only frauds get labels. A transaction without a label counts
  as genuine from `maturity_days` after its `event_time` on.

Labels of the last days are rarely complete. So the windows of label features end `LABEL_DELAY_DAYS`
before the transaction. A label that takes longer than the delay is used from its own `label_time`
on, for as long as the window contains its transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime


def known_before(day: date) -> datetime:
    """Return the latest `label_time` that a job "as of" this day may use: 00:00 UTC of the day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


@dataclass(frozen=True)
class LabelPolicy:
    """What a missing label means.

    `maturity_days` is `None` for `complete` labels: a missing label means "not known yet". For
    `frauds_only` it is the number of days after which a transaction without a label counts as
    genuine.
    """

    maturity_days: int | None = None


# Days between the end of a label window and the transaction.
LABEL_DELAY_DAYS = 7
