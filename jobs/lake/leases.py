"""The lease of nights: acquired, renewed and released by conditional `MERGE`s on `nights`.

The table `nights` uses Serializable isolation, so of two runs that acquire a night at the same time
only one succeeds. A lease expires if its owner stops renewing it. If the owner's process is known
to be dead, the lease is taken over at once. The clock only decides when a lease may be taken over.
Whether it *was* taken over is recorded in the table, and only that decides which run may write
(`jobs/lake/nights.py`).
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

from feature_defs.catalogue import FEATURES, lookback_days
from feature_defs.errors import MAX_NAMED, NightHeld
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.lease_owners import is_dead
from jobs.lake.local_rows import local_rows
from jobs.lake.runs import now
from jobs.lake.tables import NIGHTS
from jobs.runtime.logs import log_event

MERGE_ATTEMPTS = 8
# What Delta raises when a commit conflicts with another one. The classes share no base class of
# their own, and Delta converts Java's exceptions to them only after `captured` is imported.
CONFLICTS = (
    captured.ConcurrentAppendException,
    captured.ConcurrentDeleteDeleteException,
    captured.ConcurrentDeleteReadException,
    captured.ConcurrentTransactionException,
    captured.ConcurrentWriteException,
    captured.DeltaConcurrentModificationException,
)
# Largest clock difference to expect between machines.
CLOCK_SLACK = timedelta(minutes=5)
# A context goes back two periods, which together are never longer than this.
CONTEXT_LOOKBACK_DAYS = 56


@dataclass(frozen=True)
class Lease:
    """The lease of some nights for one owner, acquired or not yet acquired."""

    lake: Lake
    dates: Dates
    owner: str

    RELEASED: ClassVar[dict[str, Column | str]] = {
        "holder": "CAST(NULL AS string)",
        "lease_until": "CAST(NULL AS timestamp)",
    }

    @property
    def days(self) -> tuple[date, ...]:
        """Return every night of the lease, in order."""
        return self.dates.days

    def _rows(self, values: Mapping[date, tuple[Any, ...]], schema: str) -> DataFrame:
        """Return one row per night for a `MERGE`: owner, expiry and the night's values."""
        moment = now()
        until = moment + timedelta(minutes=self.lake.settings.lease_minutes)
        rows = [(day, self.owner, until, moment, *values[day]) for day in self.days]
        ddl = f"business_date date, holder string, lease_until timestamp, now timestamp, {schema}"
        return local_rows(self.lake.spark, rows, ddl.rstrip(", "))

    # -- acquiring -------------------------------------------------------------------------------

    def acquire(self, pins: dict[str, int]) -> list[Row]:
        """Acquire the lease of all nights and return their rows after that.

        Raises:
            NightHeld: another run has leased one of them, or an earlier night that they read.
        """
        # This check saves a commit if a night is leased; the MERGE decides if two runs race.
        before = self._read_with_lookback()
        dead = self._refuse_leased(before)
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
                    # No job has read the pins before `ingest` has finished, so they may still
                    # change.
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
        after = self._read_with_lookback()
        try:
            self._refuse_leased(after)
        except NightHeld:
            # Release the nights of the range that were free.
            self._update(dict.fromkeys(self.days, ()), "", self.RELEASED)
            raise
        for row in before:
            if self._includes(row["business_date"]) and row["holder"] is not None:
                done = ", ".join(sorted(row["jobs"])) or "none"
                log_event(
                    f"resuming the night {row['business_date']}, left unfinished by an earlier run "
                    f"(completed jobs: {done})"
                )
        return [row for row in after if self._includes(row["business_date"])]

    def _includes(self, day: date) -> bool:
        return self.dates.first <= day <= self.dates.last

    def _read_with_lookback(self) -> list[Row]:
        """Return the rows of these nights and of the earlier nights whose data they read."""
        lookback = max(
            lookback_days(FEATURES) + self.lake.settings.late_days, CONTEXT_LOOKBACK_DAYS
        )
        dates = Dates(self.dates.first - timedelta(days=lookback), self.dates.last)
        return self.lake.read(NIGHTS).where(dates.sql).orderBy("business_date").collect()

    def _refuse_leased(self, rows: list[Row]) -> list[str]:
        """Raise if a live run has leased one of the nights; return the dead lease owners."""
        others = [row for row in rows if row["holder"] not in (None, self.owner)]
        dead = [row["holder"] for row in others if is_dead(row["holder"])]
        moment = now()
        leased = [
            row
            for row in others
            if row["holder"] not in dead and row["lease_until"].astimezone(UTC) > moment
        ]
        if not leased:
            return sorted(set(dead))
        raise NightHeld(
            f"Another run has leased {len(leased)} of the nights {self.dates} or of the earlier "
            f"nights that they read: "
            f"{'; '.join(_describe_lease(row, moment) for row in leased[:MAX_NAMED])}.",
            expected="nights that no other run has leased.",
            remedy="wait until that run has ended. The lease of a dead run expires by itself.",
        )

    # -- checking and renewing -------------------------------------------------------------------

    def fence(self) -> Column:
        """Return a scalar that is true while this owner has leased all nights, and raises if not.

        The scalar is evaluated when a query runs. In the query of a write, that is after the
        write's transaction began. If another run took over and published before that, the scalar
        raises. If it does so later, Delta detects that the two commits conflict.
        """
        mine = F.count_if(F.col("holder") == F.lit(self.owner))
        lost = F.raise_error(F.lit(f"the lease of {self.dates} is lost")).cast("boolean")
        rows = self.lake.read(NIGHTS).where(self.dates.sql)
        return rows.agg(F.when(mine == self.dates.num_nights, F.lit(True)).otherwise(lost)).scalar()

    def require(self) -> None:
        """Check that this owner still has the lease of all nights.

        Raises:
            NightHeld: another run has taken one of them over.
        """
        rows = self.lake.read(NIGHTS).where(self.dates.sql).select("business_date", "holder")
        self._require(sum(row["holder"] == self.owner for row in rows.collect()))

    def _require(self, num_leased: int) -> None:
        if num_leased == self.dates.num_nights:
            return
        raise NightHeld(
            f"This run has lost its lease of {self.dates}: another run has taken over "
            f"{self.dates.num_nights - num_leased} of {self.dates.num_nights} nights.",
            expected="a lease that is renewed until the run ends.",
            remedy="do nothing if the other run succeeds, because it does the same work. A lease "
            "is lost when a machine is paused for long or when its clock is wrong.",
        )

    def update(
        self,
        values: Mapping[date, tuple[Any, ...]],
        schema: str,
        changes: Mapping[str, Column | str],
    ) -> None:
        """Update the rows of these nights from `values` of each night, and renew the lease.

        Raises:
            NightHeld: another run has taken one of them over; its rows are not changed.
        """
        self._require(self._update(values, schema, changes))

    def release(self) -> None:
        """Release the lease of all nights.

        Raises:
            NightHeld: another run has taken one of them over; its rows are not changed.
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
        """Renew the lease in a thread while the block runs, twice per `lease_minutes`."""
        ended = Event()
        thread = Thread(target=self._renew_until, args=(ended,), name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _renew_until(self, ended: Event) -> None:
        while not ended.wait(self.lake.settings.lease_minutes * 60 / 2):
            try:
                self.update(dict.fromkeys(self.days, ()), "", {})
            except NightHeld as lost:
                # The next write checks the lease itself and fails.
                log_event(str(lost))
                return
            except Exception as error:
                log_event(f"the lease could not be renewed, retrying later: {type(error).__name__}")

    # -- MERGE -----------------------------------------------------------------------------------

    def _on(self, source: DataFrame, condition: str) -> DeltaMergeBuilder:
        table = self.lake.delta_table(NIGHTS)
        return table.alias("t").merge(source.alias("s"), condition)

    def _merge(self, merge: DeltaMergeBuilder) -> int:
        """Run a merge, retrying on conflicts; return the number of changed rows."""
        for attempt in range(MERGE_ATTEMPTS):
            try:
                return int(merge.execute().collect()[0]["num_affected_rows"])
            except CONFLICTS:
                if attempt == MERGE_ATTEMPTS - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")


def _describe_lease(row: Row, moment: datetime) -> str:
    lease = f"{row['business_date']} by {row['holder']}"
    updated_at = row["updated_at"].astimezone(UTC)
    if updated_at > moment + CLOCK_SLACK:
        return (
            f"{lease}, whose record is dated in the future ({updated_at:%Y-%m-%d %H:%M} UTC): "
            "a clock is wrong"
        )
    return f"{lease} until {row['lease_until'].astimezone(UTC):%H:%M} UTC"
