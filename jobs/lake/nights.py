"""Which versions a night reads, what has been done for it, and how it is published.

`nights` has one row per night. The first job pins the version of every table; each job adds the
version that it published; later jobs read exactly those. A lease (`jobs/lake/leases.py`) keeps
two runs from working on the same night, and every publication is fenced: it looks the lease up
inside its own transaction and carries the night's epoch, so a holder that was overtaken, however
long it slept and wherever it wakes, writes nothing.

A job's record is kept in the night's row (`jobs`) in the same commit as its pins and copied to
`runs` when the night is let go, so a night of all jobs stays within twelve commits, and a killed
run's finished jobs are copied by the run that resumes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from feature_defs.errors import InputMissing, UsageError, join_first
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Commit, Lake
from jobs.lake.lease_owners import new_lease_owner
from jobs.lake.leases import Lease
from jobs.lake.runs import Run, append_runs
from jobs.lake.tables import FEATURES_TABLE, LABELS, NIGHTS, RUNS, SCORES, TRANSACTIONS, Table
from jobs.runtime.logs import log_event

# The night's jobs in order; recording one forgets those after it, for they read what it wrote.
JOBS = ("ingest", "features", "score", "publish", "alerts", "monitor", "report")
PINNED = (TRANSACTIONS, LABELS, FEATURES_TABLE, SCORES)
RECORDED = "pins map<string,bigint>, jobs map<string,string>, model_version string, state string"


@dataclass
class Night:
    """One or several nights, held by this process."""

    lease: Lease
    # Counts how often each night was taken.
    epochs: dict[date, int]
    pins: dict[str, int]
    # Model that scores each of the dates, once it is resolved.
    models: dict[date, str]
    # Record of each finished job, by date.
    records: dict[date, dict[str, Run]]
    # The backfill that runs the nights again, as JSON; unset when none has.
    backfill: str | None
    _finished_now: list[Run] = field(default_factory=list)
    _unsaved: bool = False

    @property
    def lake(self) -> Lake:
        """The lake whose nights these are."""
        return self.lease.lake

    @property
    def dates(self) -> Dates:
        """Which nights."""
        return self.lease.dates

    @property
    def epoch(self) -> int:
        """That of the night that was taken most often."""
        return max(self.epochs.values())

    @property
    def model_version(self) -> str | None:
        """The model of all these nights; several are named together."""
        return ", ".join(sorted(set(self.models.values()))) or None

    @property
    def finished(self) -> dict[str, Run]:
        """Jobs that are finished for every one of the nights; the record is the last night's."""
        common = set.intersection(*(set(jobs) for jobs in self.records.values()))
        last = self.records[self.dates.last]
        return {name: last[name] for name in JOBS if name in common}

    def pin(self, table_name: str) -> int:
        """Version of a table that this night reads.

        Raises:
            InputMissing: the night has no pin for the table.
        """
        if table_name not in self.pins:
            raise InputMissing(
                f"The night {self.dates} has no version of `{table_name}` to read.",
                expected="a night that `ingest` has begun.",
                remedy=f"run `fraud-scoring ingest --date {self.dates.first}` first.",
            )
        return self.pins[table_name]

    def require_finished(self, job: str) -> Run:
        """Record of an earlier job that this one builds on.

        Raises:
            InputMissing: that job has not finished for every one of the dates.
        """
        finished = self.finished
        if job not in finished:
            raise InputMissing(
                f"`{job}` has not finished for {self.dates}.",
                expected=f"a night whose `{job}` is done.",
                remedy=f"run `fraud-scoring {job}` for it, or `fraud-scoring nightly`.",
            )
        return finished[job]

    @contextmanager
    def job(self, name: str, arguments: dict[str, Any] | None = None) -> Iterator[Run]:
        """Run one job: recorded as done at its end, as failed when it raises."""
        run = Run(name, self.dates, arguments or {})
        self._finished_now.append(run)
        log_event(f"{name} begins for {self.dates}", job=name, run_id=run.run_id)
        try:
            yield run
        except BaseException as error:
            run.finish(error)
            raise
        run.finish()
        for jobs in self.records.values():
            # Features may be built anew for what reads them next: what was published stands.
            stands = name == "features" and "report" in jobs
            for later in () if stands else JOBS[JOBS.index(name) + 1 :]:
                # Nobody takes back what people were alerted to.
                if later != "alerts":
                    jobs.pop(later, None)
            jobs[name] = run
        self.pins.update(run.versions_out)
        self._unsaved = True
        if any(table.name in run.versions_out for table in PINNED):
            self.save()
        log_event(f"{name} is done", job=name, run_id=run.run_id, **run.rows)

    def publish(self, table: Table, frame: DataFrame, run: Run) -> None:
        """Replace the dates of a table in one commit, while the nights are this process's.

        Raises:
            NightHeld: another run has taken over; nothing was written.
        """
        self.lease.require()
        commit = Commit(run.run_id, self.epoch, self.lease.holds())
        try:
            version = self.lake.publish(table, frame, self.dates, commit)
        except Exception:
            # Whatever a write that was overtaken stumbles over, the lost lease is the reason.
            self.lease.require()
            raise
        self.lease.require()
        run.versions_out[table.name] = version

    def each(self) -> Iterator[Night]:
        """Each night by itself, under the same lease, for jobs that look at one.

        What such a job has done for its night is saved before the next night's turn.
        """
        if self._unsaved:
            self.save()
        for day in self.lease.days:
            night = Night(
                replace(self.lease, dates=Dates(day, day)),
                {day: self.epochs[day]},
                dict(self.pins),
                {day: self.models[day]} if day in self.models else {},
                {day: self.records[day]},
                self.backfill,
                self._finished_now,
            )
            yield night
            if night._unsaved:
                night.save()

    def require_alerts_unpublished(self) -> None:
        """Check that no alerts were shown of nights that are not being run again.

        Raises:
            UsageError: there were; the nights are named.
        """
        shown = [
            str(day)
            for day, jobs in self.records.items()
            if "alerts" in jobs and ("report" in jobs or self.backfill is None)
        ]
        if shown:
            raise UsageError(
                f"Of the nights {self.dates} {len(shown)} have shown their alerts: {join_first(shown)}.",
                expected="nights that nobody has been alerted of yet.",
                remedy=f"run `fraud-scoring backfill --from {self.dates.first} --to "
                f"{self.dates.last} --reason TEXT`, which brings in their deliveries again.",
            )

    def restart_for_backfill(
        self, kept: Collection[str], models: dict[date, str], why: str
    ) -> None:
        """Read the newest versions and forget all finished jobs but the kept: a backfill starts.

        Alerts stay as well: they say what people were shown. `why` is the backfill as JSON.
        """
        for day, jobs in self.records.items():
            stays = {*kept, "alerts"}
            self.records[day] = {name: run for name, run in jobs.items() if name in stays}
        self.pins, self.models = self.lake.versions(PINNED), models
        self.backfill = why
        self.save({"backfill": F.lit(why)})

    def save(self, changes: dict[str, Column | str] | None = None) -> None:
        """Write pins, models and finished jobs into the nights' rows and renew the lease.

        Raises:
            NightHeld: another run has taken over; its rows are left alone.
        """
        values = {day: self._recorded(day) for day in self.lease.days}
        columns = ("pins", "jobs", "model_version", "state")
        self.lease.update(
            values, RECORDED, {**{name: f"s.{name}" for name in columns}, **(changes or {})}
        )
        self._unsaved = False

    def _recorded(self, day: date) -> tuple[Any, ...]:
        jobs = {name: run.to_json() for name, run in self.records[day].items()}
        state = "done" if "report" in jobs else "open"
        return self.pins, jobs, self.models.get(day), state

    def close(self) -> None:
        """Copy the records of the jobs to `runs` and let the nights go.

        Raises:
            NightHeld: another run has taken over.
        """
        # In this order a night that is done has its runs, wherever the process is killed.
        append_runs(self.lake, self._runs_to_copy())
        if self._unsaved:
            self.save(Lease.RELEASED)
        else:
            self.lease.release()

    def _runs_to_copy(self) -> list[Run]:
        mine = {run.run_id: run for run in self._finished_now}
        done = [run for jobs in self.records.values() for run in jobs.values()]
        earlier = {run.run_id: run for run in done if run.run_id not in mine}
        if earlier:
            known = self.lake.read(RUNS).where(F.col("run_id").isin(list(earlier)))
            for row in known.select("run_id").collect():
                del earlier[row["run_id"]]
        return [*earlier.values(), *mine.values()]


@contextmanager
def lease_nights(lake: Lake, dates: Dates) -> Iterator[Night]:
    """Hold nights while a command works on them.

    Raises:
        NightHeld: another run holds one of them, or has taken one over.
    """
    lease = Lease(lake, dates, new_lease_owner())
    night = _night(lease, lease.acquire(lake.versions(PINNED)))
    if "ingest" not in night.finished:
        # Another may have published since the versions were read and before these were held.
        night.pins = lake.versions(PINNED)
    with lease.kept_alive():
        try:
            yield night
        except BaseException:
            _close_after_failure(night)
            raise
        night.close()


def _close_after_failure(night: Night) -> None:
    """Let nights go; what else goes wrong then is said, and does not hide why the job failed."""
    try:
        night.close()
    except Exception as error:
        first_line = str(error).split("\n", 1)[0][:300]
        log_event(
            f"the nights {night.dates} could not be let go: {type(error).__name__}: {first_line}"
        )


def _night(lease: Lease, rows: list[Row]) -> Night:
    """What the nights' rows say, now that they are held."""
    pins: dict[str, int] = {}
    for row in rows:
        for name, version in row["pins"].items():
            pins[name] = max(version, pins.get(name, 0))
    return Night(
        lease,
        {row["business_date"]: row["epoch"] for row in rows},
        pins,
        {row["business_date"]: row["model_version"] for row in rows if row["model_version"]},
        {
            row["business_date"]: {job: Run.from_json(text) for job, text in row["jobs"].items()}
            for row in rows
        },
        next((row["backfill"] for row in rows if row["backfill"]), None),
    )


def require_ingested(lake: Lake, dates: Dates) -> None:
    """Check that `ingest` is done for all dates, before a row of `nights` is touched.

    Raises:
        InputMissing: it is not; the nights are named.
    """
    done = lake.read(NIGHTS).where(dates.sql).where("map_contains_key(jobs, 'ingest')")
    ingested = {row["business_date"] for row in done.select("business_date").collect()}
    missing = [str(day) for day in dates.days if day not in ingested]
    if missing:
        raise InputMissing(
            f"`ingest` has not finished for {len(missing)} of the nights {dates}: "
            f"{join_first(missing)}.",
            expected="nights that `ingest` has brought in.",
            remedy="run `fraud-scoring ingest` for them, or `fraud-scoring nightly`.",
        )
