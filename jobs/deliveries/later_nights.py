"""Later nights beside an `ingest`: they may bring some of its rows, as late ones.

A night is taken only while no earlier one that it builds on is held. So beside an `ingest` only
such later nights can be at work as had begun before it was held, and what they publish after its
pins were read it has not compared its rows with.
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
class LaterNights:
    """The `late_days` nights after some, and what `ingest` had done for each of them."""

    night: Night
    dates: Dates
    ingests: dict[date, str | None]

    @classmethod
    def of(cls, night: Night) -> LaterNights:
        """As they are now; to be looked at before the night's pins are read."""
        last = night.dates.last
        late_days = max(1, night.lake.settings.late_days)
        dates = Dates(last + timedelta(days=1), last + timedelta(days=late_days))
        return cls(night, dates, _ingests(night, dates))

    def require_unchanged(self) -> None:
        """Check that none of them has brought anything in since, or may still do so.

        Raises:
            NightHeld: one has, or a live run works on it.
        """
        held = {day for day in leased_nights(self.night.lake) if day in self.dates.days}
        now = _ingests(self.night, self.dates)
        changed = {day for day, run in now.items() if run != self.ingests.get(day)}
        if held | changed:
            raise NightHeld(
                f"While {self.night.dates} was being ingested, later nights were at work: "
                f"{join_first(sorted(held | changed))}.",
                expected="that rows are compared with those that came late in the nights after.",
                remedy="run the same command again when those nights are at rest.",
            )


def _ingests(night: Night, dates: Dates) -> dict[date, str | None]:
    """What `nights` says of the ingest of each night that was begun."""
    rows = night.lake.read(NIGHTS).where(F.expr(dates.sql)).select("business_date", "jobs")
    return {row["business_date"]: row["jobs"].get("ingest") for row in rows.collect()}
