"""A leased night: the table versions that it reads, its finished jobs, and its publications.

The table `nights` has one row per night. The first job pins the version of every table, each job
adds the version that it published, and later jobs read exactly these versions. A lease
(`jobs/lake/leases.py`) keeps two runs from working on the same night. Every publication is fenced:
it checks the lease inside its own transaction and carries the night's epoch (a fencing token). So
a run that lost its lease writes nothing, no matter how long it was paused.

The record of a job is saved in the night's row (`jobs`), in the same commit as its pins. It is
copied to `runs` when the night is released. So a night with all its jobs needs at most twelve
commits, and the run that resumes a killed run copies the records of its finished jobs.
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

# The jobs of a night, in order. When one finishes again, the later ones count as unfinished,
# because they read what it wrote.
JOBS = ("ingest", "features", "score", "publish", "alerts", "monitor", "report")
PINNED = (TRANSACTIONS, LABELS, FEATURES_TABLE, SCORES)
SAVED_COLUMNS = (
    "pins map<string,bigint>, jobs map<string,string>, model_version string, state string"
)


@dataclass
class Night:
    """One or several nights that this process has leased."""

    lease: Lease
    # How often each night was leased.
    epochs: dict[date, int]
    pins: dict[str, int]
    # Version of the model that scores each date, once it is resolved.
    models: dict[date, str]
    # Record of each finished job, by date and job name.
    records: dict[date, dict[str, Run]]
    # The backfill that ran the nights again, as JSON; `None` if there was none.
    backfill: str | None
    _new_runs: list[Run] = field(default_factory=list)
    _unsaved: bool = False

    @property
    def lake(self) -> Lake:
        """Return the lake of these nights."""
        return self.lease.lake

    @property
    def dates(self) -> Dates:
        """Return the dates of these nights."""
        return self.lease.dates

    @property
    def epoch(self) -> int:
        """Return the highest epoch (fencing token) of these nights."""
        return max(self.epochs.values())

    @property
    def model_version(self) -> str | None:
        """Return the model version of these nights; several are joined with commas."""
        return ", ".join(sorted(set(self.models.values()))) or None

    @property
    def finished(self) -> dict[str, Run]:
        """Return the jobs that are finished for all nights, with the record of the last night."""
        common = set.intersection(*(set(jobs) for jobs in self.records.values()))
        last = self.records[self.dates.last]
        return {name: last[name] for name in JOBS if name in common}

    def pin(self, table_name: str) -> int:
        """Return the version of a table that this night reads.

        Raises:
            InputMissing: the night has no pin for the table.
        """
        if table_name not in self.pins:
            raise InputMissing(
                f"The night {self.dates} has no pinned version of `{table_name}`.",
                expected="a night that `ingest` has started.",
                remedy=f"run `fraud-scoring ingest --date {self.dates.first}` first.",
            )
        return self.pins[table_name]

    def require_finished(self, job: str) -> Run:
        """Return the record of an earlier job whose output is needed.

        Raises:
            InputMissing: that job has not finished for all dates.
        """
        finished = self.finished
        if job not in finished:
            raise InputMissing(
                f"`{job}` has not finished for {self.dates}.",
                expected=f"a night for which `{job}` has finished.",
                remedy=f"run `fraud-scoring {job}` for this night, or `fraud-scoring nightly`.",
            )
        return finished[job]

    @contextmanager
    def job(self, name: str, arguments: dict[str, Any] | None = None) -> Iterator[Run]:
        """Run a job in a block and record it: as done at its end, as failed if it raises."""
        run = Run(name, self.dates, arguments or {})
        self._new_runs.append(run)
        log_event(f"{name} starts for {self.dates}", job=name, run_id=run.run_id)
        try:
            yield run
        except BaseException as error:
            run.finish(error)
            raise
        run.finish()
        for jobs in self.records.values():
            # Features of a finished night may be rebuilt for later nights; its scores stay valid.
            keep_later = name == "features" and "report" in jobs
            for later in () if keep_later else JOBS[JOBS.index(name) + 1 :]:
                # Published alerts cannot be taken back.
                if later != "alerts":
                    jobs.pop(later, None)
            jobs[name] = run
        self.pins.update(run.versions_out)
        self._unsaved = True
        if any(table.name in run.versions_out for table in PINNED):
            self.save()
        log_event(f"{name} has finished", job=name, run_id=run.run_id, **run.rows)

    def publish(self, table: Table, frame: DataFrame, run: Run) -> None:
        """Replace the dates of a table in one commit, as long as the lease is valid.

        Raises:
            NightHeld: another run has taken over the lease; nothing was written.
        """
        self.lease.require()
        commit = Commit(run.run_id, self.epoch, self.lease.fence())
        try:
            version = self.lake.publish(table, frame, self.dates, commit)
        except Exception:
            # If the lease is lost, that is the cause, whatever error the write raised.
            self.lease.require()
            raise
        self.lease.require()
        run.versions_out[table.name] = version

    def each(self) -> Iterator[Night]:
        """Yield each night separately, under the same lease, for jobs that work on one night.

        The results for one night are saved before the next one is yielded.
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
                self._new_runs,
            )
            yield night
            if night._unsaved:
                night.save()

    def require_alerts_unpublished(self) -> None:
        """Check that alerts are not published yet, except for nights that a backfill repeats.

        Raises:
            UsageError: alerts are published; the message names the nights.
        """
        published = [
            str(day)
            for day, jobs in self.records.items()
            if "alerts" in jobs and ("report" in jobs or self.backfill is None)
        ]
        if published:
            raise UsageError(
                f"Alerts are already published for {len(published)} of the nights {self.dates}: "
                f"{join_first(published)}.",
                expected="nights whose alerts are not published yet.",
                remedy=f"run `fraud-scoring backfill --from {self.dates.first} --to "
                f"{self.dates.last} --reason TEXT`, which ingests their deliveries again.",
            )

    def restart_for_backfill(
        self, kept: Collection[str], models: dict[date, str], backfill: str
    ) -> None:
        """Pin the newest versions and discard the finished jobs that are not in `kept`.

        The record of `alerts` is always kept: it says which alerts were published. `backfill`
        describes the backfill as JSON.
        """
        for day, jobs in self.records.items():
            keep = {*kept, "alerts"}
            self.records[day] = {name: run for name, run in jobs.items() if name in keep}
        self.pins, self.models = self.lake.versions(PINNED), models
        self.backfill = backfill
        self.save({"backfill": F.lit(backfill)})

    def save(self, changes: dict[str, Column | str] | None = None) -> None:
        """Write pins, models and finished jobs to the rows of the nights, and renew the lease.

        Raises:
            NightHeld: another run has taken over the lease; its rows are not changed.
        """
        values = {day: self._row_values(day) for day in self.lease.days}
        columns = ("pins", "jobs", "model_version", "state")
        self.lease.update(
            values, SAVED_COLUMNS, {**{name: f"s.{name}" for name in columns}, **(changes or {})}
        )
        self._unsaved = False

    def _row_values(self, day: date) -> tuple[Any, ...]:
        jobs = {name: run.to_json() for name, run in self.records[day].items()}
        state = "done" if "report" in jobs else "open"
        return self.pins, jobs, self.models.get(day), state

    def close(self) -> None:
        """Copy the records of the jobs to `runs` and release the lease.

        Raises:
            NightHeld: another run has taken over the lease.
        """
        # `runs` comes first: a released night then has its records there, even if this is killed.
        append_runs(self.lake, self._runs_to_copy())
        if self._unsaved:
            self.save(Lease.RELEASED)
        else:
            self.lease.release()

    def _runs_to_copy(self) -> list[Run]:
        new = {run.run_id: run for run in self._new_runs}
        done = [run for jobs in self.records.values() for run in jobs.values()]
        earlier = {run.run_id: run for run in done if run.run_id not in new}
        if earlier:
            copied = self.lake.read(RUNS).where(F.col("run_id").isin(list(earlier)))
            for row in copied.select("run_id").collect():
                del earlier[row["run_id"]]
        return [*earlier.values(), *new.values()]


@contextmanager
def lease_nights(lake: Lake, dates: Dates) -> Iterator[Night]:
    """Lease nights for a block of code and release them after it.

    Raises:
        NightHeld: another run has leased one of the nights, or has taken one over.
    """
    lease = Lease(lake, dates, new_lease_owner())
    night = _night_from_rows(lease, lease.acquire(lake.versions(PINNED)))
    if "ingest" not in night.finished:
        # Another run may have published between reading the versions and acquiring the lease.
        night.pins = lake.versions(PINNED)
    with lease.kept_alive():
        try:
            yield night
        except BaseException:
            _close_after_failure(night)
            raise
        night.close()


def _close_after_failure(night: Night) -> None:
    """Release nights after a job failed; only log further errors, so they do not hide the first."""
    try:
        night.close()
    except Exception as error:
        first_line = str(error).split("\n", 1)[0][:300]
        log_event(
            f"the nights {night.dates} could not be released: {type(error).__name__}: {first_line}"
        )


def _night_from_rows(lease: Lease, rows: list[Row]) -> Night:
    """Return the state of leased nights from their rows of `nights`."""
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
    """Check that `ingest` has finished for all dates, before any row of `nights` is changed.

    Raises:
        InputMissing: it has not; the message names the nights.
    """
    done = lake.read(NIGHTS).where(dates.sql).where("map_contains_key(jobs, 'ingest')")
    ingested = {row["business_date"] for row in done.select("business_date").collect()}
    missing = [str(day) for day in dates.days if day not in ingested]
    if missing:
        raise InputMissing(
            f"`ingest` has not finished for {len(missing)} of the nights {dates}: "
            f"{join_first(missing)}.",
            expected="ingested nights.",
            remedy="run `fraud-scoring ingest` for them, or `fraud-scoring nightly`.",
        )
