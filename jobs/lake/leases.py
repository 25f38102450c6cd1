"""The lease of nights: taken, renewed and given back by conditional `MERGE`s on `nights`.

`nights` is under Serializable isolation, so of two runs that ask at once one wins. A lease ends
by itself when its holder gives no sign of life; a holder whose process is seen to be dead need
not be waited for. The clock decides only when a lease may be taken over. Whether it *was* taken
over is a fact in the table, and that alone decides who may write (`jobs/lake/nights.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from threading import Event, Thread
from typing import Any, ClassVar

from delta.exceptions import captured
from delta.tables import DeltaMergeBuilder
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from feature_defs.catalogue import LOOKBACK_DAYS
from feature_defs.errors import MAX_NAMED, NightHeld
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.lease_owners import is_dead
from jobs.lake.runs import now
from jobs.lake.tables import NIGHTS
from jobs.runtime.logs import log_event

MERGE_ATTEMPTS = 8
# What Delta raises when another commit was in the way. They have no parent of their own, and it
# takes the import of `captured` for Java's exceptions to become these.
CONFLICTS = (
    captured.ConcurrentAppendException,
    captured.ConcurrentDeleteDeleteException,
    captured.ConcurrentDeleteReadException,
    captured.ConcurrentTransactionException,
    captured.ConcurrentWriteException,
    captured.DeltaConcurrentModificationException,
)
# Clocks of machines that work together differ by less.
CLOCK_SLACK = timedelta(minutes=5)
# A context reaches two periods back, and two periods are never longer than this.
CONTEXT_REACH_DAYS = 56


@dataclass(frozen=True)
class Lease:
    """Nights that a holder has taken, or wants to."""

    lake: Lake
    dates: Dates
    holder: str

    RELEASED: ClassVar[dict[str, Column | str]] = {
        "holder": "CAST(NULL AS string)",
        "lease_until": "CAST(NULL AS timestamp)",
    }

    @property
    def days(self) -> tuple[date, ...]:
        """Each of the nights."""
        return self.dates.days

    def _rows(self, values: Mapping[date, tuple[Any, ...]], schema: str) -> DataFrame:
        """One row per night for a `MERGE`: who, until when, and the night's values."""
        moment = now()
        until = moment + timedelta(minutes=self.lake.settings.lease_minutes)
        rows = [(day, self.holder, until, moment, *values[day]) for day in self.days]
        ddl = f"business_date date, holder string, lease_until timestamp, now timestamp, {schema}"
        return self.lake.spark.createDataFrame(rows, ddl.rstrip(", ")).coalesce(1)

    # -- taking ----------------------------------------------------------------------------------

    def acquire(self, pins: dict[str, int]) -> list[Row]:
        """Take the nights; returns their rows as they are then.

        Raises:
            NightHeld: another run holds one of them, or an earlier night that these build on.
        """
        # Nights that are plainly held cost no commit; the MERGE decides when two ask at once.
        before = self._read_reach()
        dead = self._refuse_held(before)
        source = self._rows(
            dict.fromkeys(self.days, (pins, dead)), "pins map<string,bigint>, dead array<string>"
        )
        free = "t.holder IS NULL OR t.lease_until < s.now OR array_contains(s.dead, t.holder)"
        self._merge(
            self._on(source, "t.business_date = s.business_date")
            .whenMatchedUpdate(
                condition=free,
                set={
                    "holder": "s.holder",
                    "lease_until": "s.lease_until",
                    "epoch": "t.epoch + 1",
                    # Until a night is ingested nothing has read its pins: they follow.
                    "pins": "CASE WHEN map_contains_key(t.jobs, 'ingest') "
                    "THEN t.pins ELSE s.pins END",
                    "updated_at": "s.now",
                },
            )
            .whenNotMatchedInsert(
                values={
                    "business_date": "s.business_date",
                    "state": F.lit("open"),
                    "holder": "s.holder",
                    "lease_until": "s.lease_until",
                    "epoch": F.lit(1).cast("bigint"),
                    "pins": "s.pins",
                    "jobs": F.expr("map()").cast("map<string,string>"),
                    "updated_at": "s.now",
                }
            )
        )
        there = self._read_reach()
        try:
            self._refuse_held(there)
        except NightHeld:
            # Of a range some nights may have been free.
            self._update(dict.fromkeys(self.days, ()), "", self.RELEASED)
            raise
        for row in before:
            if self._is_mine(row["business_date"]) and row["holder"] is not None:
                done = ", ".join(sorted(row["jobs"])) or "nothing"
                log_event(f"the night {row['business_date']} was left in the middle; done: {done}")
        return [row for row in there if self._is_mine(row["business_date"])]

    def _is_mine(self, day: date) -> bool:
        return self.dates.first <= day <= self.dates.last

    def _read_reach(self) -> list[Row]:
        """These nights and the earlier ones that they build on."""
        reach = max(LOOKBACK_DAYS + self.lake.settings.late_days, CONTEXT_REACH_DAYS)
        dates = Dates(self.dates.first - timedelta(days=reach), self.dates.last)
        return self.lake.read(NIGHTS).where(dates.sql).orderBy("business_date").collect()

    def _refuse_held(self, rows: list[Row]) -> list[str]:
        """Refuse nights that others hold; returns the holders that are dead."""
        others = [row for row in rows if row["holder"] not in (None, self.holder)]
        dead = [row["holder"] for row in others if is_dead(row["holder"])]
        moment = now()
        held = [
            row
            for row in others
            if row["holder"] not in dead and row["lease_until"].astimezone(UTC) > moment
        ]
        if not held:
            return sorted(set(dead))
        raise NightHeld(
            f"Another run holds {len(held)} of the nights {self.dates} or of those that they "
            f"build on: {'; '.join(_by_whom(row, moment) for row in held[:MAX_NAMED])}.",
            expected="nights that nobody works on.",
            remedy="wait until that run has ended; a dead run's lease ends by itself.",
        )

    # -- keeping ---------------------------------------------------------------------------------

    def holds(self) -> Column:
        """A scalar that is true while all these nights are this holder's, and else raises.

        It is looked up when a query runs. Within the query of a write that is after the write's
        transaction began: had another run taken over and published before, this sees it;
        should it do so afterwards, Delta finds the two commits in conflict.
        """
        mine = F.count_if(F.col("holder") == F.lit(self.holder))
        lost = F.raise_error(F.lit(f"the lease of {self.dates} is lost")).cast("boolean")
        rows = self.lake.read(NIGHTS).where(self.dates.sql)
        return rows.agg(F.when(mine == self.dates.num_nights, F.lit(True)).otherwise(lost)).scalar()

    def require(self) -> None:
        """Check that all these nights are still this holder's.

        Raises:
            NightHeld: another run has taken one of them over.
        """
        rows = self.lake.read(NIGHTS).where(self.dates.sql).select("business_date", "holder")
        self._require(sum(row["holder"] == self.holder for row in rows.collect()))

    def _require(self, num_held: int) -> None:
        if num_held == self.dates.num_nights:
            return
        raise NightHeld(
            f"This run has lost its lease of {self.dates}: another one has taken over "
            f"{self.dates.num_nights - num_held} of {self.dates.num_nights} nights.",
            expected="a lease that is renewed while the run lives.",
            remedy="nothing, if the other run ends well; it has done this one's work. A machine "
            "that was paused for long, or a wrong clock, is how a lease gets lost.",
        )

    def update(
        self,
        values: Mapping[date, tuple[Any, ...]],
        schema: str,
        changes: Mapping[str, Column | str],
    ) -> None:
        """Change the rows of these nights, from values of each, and renew the lease.

        Raises:
            NightHeld: another run has taken one of them over; its rows are left alone.
        """
        self._require(self._update(values, schema, changes))

    def release(self) -> None:
        """Let the nights go.

        Raises:
            NightHeld: another run has taken one of them over; its rows are left alone.
        """
        self.update(dict.fromkeys(self.days, ()), "", self.RELEASED)

    def _update(
        self,
        values: Mapping[date, tuple[Any, ...]],
        schema: str,
        changes: Mapping[str, Column | str],
    ) -> int:
        renewal = {"lease_until": "s.lease_until", "updated_at": "s.now"}
        mine = "t.business_date = s.business_date AND t.holder = s.holder"
        merge = self._on(self._rows(values, schema), mine)
        return self._merge(merge.whenMatchedUpdate(set={**renewal, **changes}))

    @contextmanager
    def kept_alive(self) -> Iterator[None]:
        """Renew the lease twice in its time while the block runs."""
        ended = Event()
        thread = Thread(target=self._keep, args=(ended,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _keep(self, ended: Event) -> None:
        while not ended.wait(self.lake.settings.lease_minutes * 60 / 2):
            try:
                self.update(dict.fromkeys(self.days, ()), "", {})
            except NightHeld as lost:
                # The next write finds out by itself.
                log_event(str(lost))
                return
            except Exception as error:
                log_event(f"the lease could not be renewed this time: {type(error).__name__}")

    # -- MERGE -----------------------------------------------------------------------------------

    def _on(self, source: DataFrame, condition: str) -> DeltaMergeBuilder:
        table = self.lake.delta_table(NIGHTS)
        return table.alias("t").merge(source.alias("s"), condition)

    def _merge(self, merge: DeltaMergeBuilder) -> int:
        """Run a merge until no other run is in its way; returns how many rows it changed."""
        for attempt in range(MERGE_ATTEMPTS):
            try:
                return int(merge.execute().collect()[0]["num_affected_rows"])
            except CONFLICTS:
                if attempt == MERGE_ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")


def _by_whom(row: Row, moment: datetime) -> str:
    said = f"{row['business_date']} by {row['holder']}"
    if row["updated_at"].astimezone(UTC) > moment + CLOCK_SLACK:
        return (
            f"{said}, who wrote that at {row['updated_at'].astimezone(UTC):%Y-%m-%d %H:%M} UTC, "
            "which is yet to come: a clock is wrong"
        )
    return f"{said} until {row['lease_until'].astimezone(UTC):%H:%M} UTC"
