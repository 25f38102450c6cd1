"""Guard of `ingest` against late-arriving rows: an optimistic-concurrency check.

A later night can publish rows of an earlier date when they arrive late. `ingest` compares its rows
with those of the `late_days` nights after it, at the versions that it pinned at the start. While an
`ingest` runs, its lease blocks the later nights that build on it, so only later nights that started
before can run at the same time. If such a night publishes rows after the pins were read, `ingest`
has not seen these rows and must publish nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import functions as F

from feature_defs.errors import NightHeld, join_first
from jobs.lake.dates import Dates
from jobs.lake.night_state import leased_nights
from jobs.lake.nights import Night
from jobs.lake.tables import NIGHTS


@dataclass(frozen=True)
class LateArrivalGuard:
    """The `late_days` nights after a night, and the `ingest` record of each of them."""

    night: Night
    dates: Dates
    ingests: dict[date, str | None]

    @classmethod
    def before(cls, night: Night) -> LateArrivalGuard:
        """Read the state of the later nights; call this before the night's pins are read."""
        last = night.dates.last
        late_days = max(1, night.lake.settings.late_days)
        dates = Dates(last + timedelta(days=1), last + timedelta(days=late_days))
        return cls(night, dates, _ingest_records(night, dates))

    def require_unchanged(self) -> None:
        """Check that no later night has run `ingest` since, and that none is leased now.

        Raises:
            NightHeld: a later night has a new `ingest` record or a live lease.
        """
        leased = {day for day in leased_nights(self.night.lake) if day in self.dates.days}
        now = _ingest_records(self.night, self.dates)
        changed = {day for day, record in now.items() if record != self.ingests.get(day)}
        if leased | changed:
            raise NightHeld(
                f"Later nights were running during the ingest of {self.night.dates}: "
                f"{join_first(sorted(leased | changed))}.",
                expected="no `ingest` of a later night at the same time: it can add late-arriving "
                "rows that this ingest was not compared with.",
                remedy="run the same command again when those nights are finished.",
            )


def _ingest_records(night: Night, dates: Dates) -> dict[date, str | None]:
    """Return the `ingest` record of each night in `nights`; None if it has not finished."""
    rows = night.lake.read(NIGHTS).where(F.expr(dates.sql)).select("business_date", "jobs")
    return {row["business_date"]: row["jobs"].get("ingest") for row in rows.collect()}
