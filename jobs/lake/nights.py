"""Who works on a night, which versions it reads, and what has been done for it.

`nights` has one row per night. The first job pins the version of every table; each job adds the
version that it published; later jobs read exactly those. A conditional `MERGE` under
Serializable isolation takes the lease of a night, so that two runs never write the same one.

A job's record is kept in the night's row (`jobs`) in the same commit as its pins and copied to
`runs` when the night is let go, so a night of all jobs stays within twelve commits, and a killed
run's finished jobs are copied by the run that resumes it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from typing import Any

from delta.exceptions import DeltaConcurrentModificationException
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from feature_defs.problems import InputMissing, NightHeld
from jobs.lake.delta_io import Dates, Lake
from jobs.lake.runs import Run, append_runs, new_run_id, now
from jobs.lake.tables import FEATURES_TABLE, LABELS, NIGHTS, RUNS, SCORES, TRANSACTIONS
from jobs.logs import say

# The night's jobs in order; recording one forgets those after it, for they read what it wrote.
JOBS = ("ingest", "features", "score", "publish", "alerts", "monitor", "report")
PINNED = (TRANSACTIONS, LABELS, FEATURES_TABLE, SCORES)
CLAIM_ATTEMPTS = 5


@dataclass
class Night:
    """One or several nights, held by this process."""

    lake: Lake
    dates: Dates
    holder: str
    pins: dict[str, int]
    model_version: str | None
    # Record of each job that is finished for every one of the dates.
    finished: dict[str, Run]
    _finished_now: list[Run] = field(default_factory=list)
    _unsaved: bool = False

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

    def need(self, job: str) -> Run:
        """Record of an earlier job that this one builds on.

        Raises:
            InputMissing: that job has not finished for every one of the dates.
        """
        if job not in self.finished:
            raise InputMissing(
                f"`{job}` has not finished for {self.dates}.",
                expected=f"a night whose `{job}` is done.",
                remedy=f"run `fraud-scoring {job}` for it, or `fraud-scoring nightly`.",
            )
        return self.finished[job]

    @contextmanager
    def job(self, name: str, arguments: dict[str, Any] | None = None) -> Iterator[Run]:
        """Run one job: recorded as done at its end, as failed when it raises."""
        run = Run(name, self.dates, arguments or {})
        self._finished_now.append(run)
        say(f"{name} begins for {self.dates}", job=name, run_id=run.run_id)
        try:
            yield run
        except BaseException as error:
            run.finish(error)
            raise
        run.finish()
        later = JOBS[JOBS.index(name) + 1 :]
        self.finished = {job: done for job, done in self.finished.items() if job not in later}
        self.finished[name] = run
        self.pins.update(run.versions_out)
        if run.model_version is not None:
            self.model_version = run.model_version
        self._unsaved = True
        if any(table.name in run.versions_out for table in PINNED):
            self._save(release=False)
        say(f"{name} is done", job=name, run_id=run.run_id, **run.rows)

    def close(self) -> None:
        """Let the night go and copy the records of its jobs to `runs`."""
        self._save(release=True)
        append_runs(self.lake, self._runs_to_copy())

    def _runs_to_copy(self) -> list[Run]:
        mine = {run.run_id: run for run in self._finished_now}
        earlier = {run.run_id: run for run in self.finished.values() if run.run_id not in mine}
        if earlier:
            known = (
                self.lake.read(RUNS)
                .where(F.col("run_id").isin(list(earlier)))
                .select("run_id")
                .collect()
            )
            for row in known:
                del earlier[row["run_id"]]
        return [*earlier.values(), *mine.values()]

    def _save(self, *, release: bool) -> None:
        updated = {
            "pins": F.expr("s.pins"),
            "updated_at": F.expr("s.now"),
            "holder": F.lit(None).cast("string") if release else F.expr("s.holder"),
            "lease_until": F.lit(None).cast("timestamp") if release else F.expr("s.lease_until"),
        }
        if self._unsaved:
            updated["jobs"] = F.expr("s.jobs")
            updated["model_version"] = F.expr("s.model_version")
            updated["state"] = F.lit("done" if "report" in self.finished else "open")
        jobs = {name: run.to_json() for name, run in self.finished.items()}
        merge = (
            self.lake.delta_table(NIGHTS)
            .alias("t")
            .merge(
                _claims(self, jobs).alias("s"),
                "t.business_date = s.business_date AND t.holder = s.holder",
            )
            .whenMatchedUpdate(set=updated)
        )
        merge.execute()
        self._unsaved = False


def _claims(night: Night, jobs: dict[str, str]) -> DataFrame:
    """One row per date of what this holder says about it."""
    moment = now()
    until = moment + timedelta(minutes=night.lake.settings.lease_minutes)
    rows = [
        (day, night.holder, until, moment, night.pins, jobs, night.model_version)
        for day in _days(night.dates)
    ]
    schema = (
        "business_date date, holder string, lease_until timestamp, now timestamp, "
        "pins map<string,bigint>, jobs map<string,string>, model_version string"
    )
    return night.lake.spark.createDataFrame(rows, schema).coalesce(1)


def _days(dates: Dates) -> list[date]:
    return [dates.first + timedelta(days=offset) for offset in range(dates.num_nights)]


@contextmanager
def hold(lake: Lake, dates: Dates) -> Iterator[Night]:
    """Hold nights while a command works on them.

    Raises:
        NightHeld: another run holds one of them.
    """
    night = _claim(lake, dates)
    try:
        yield night
    finally:
        night.close()


def require_ingested(lake: Lake, dates: Dates) -> None:
    """Check that `ingest` is done for all dates, before a row of `nights` is touched.

    Raises:
        InputMissing: it is not; the nights are named.
    """
    done = lake.read(NIGHTS).where(dates.sql).where("map_contains_key(jobs, 'ingest')")
    ingested = {row["business_date"] for row in done.select("business_date").collect()}
    missing = [str(day) for day in _days(dates) if day not in ingested]
    if missing:
        raise InputMissing(
            f"`ingest` has not finished for {len(missing)} of the nights {dates}: "
            f"{', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}.",
            expected="nights that `ingest` has brought in.",
            remedy="run `fraud-scoring ingest` for them, or `fraud-scoring nightly`.",
        )


def _claim(lake: Lake, dates: Dates) -> Night:
    holder = f"{new_run_id('hold')}@{socket.gethostname()}:{os.getpid()}"
    # Nights that are plainly held cost no commit; the MERGE decides between two that ask at once.
    _refuse_held(dates, lake.read(NIGHTS).where(dates.sql).where("lease_until > now()").collect())
    fresh = Night(lake, dates, holder, lake.versions(PINNED), None, {})
    free = "t.holder IS NULL OR t.lease_until < s.now"
    for attempt in range(CLAIM_ATTEMPTS):
        try:
            (
                lake.delta_table(NIGHTS)
                .alias("t")
                .merge(_claims(fresh, {}).alias("s"), "t.business_date = s.business_date")
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
                        "jobs": "s.jobs",
                        "updated_at": "s.now",
                    }
                )
                .execute()
            )
            break
        except DeltaConcurrentModificationException:
            if attempt == CLAIM_ATTEMPTS - 1:
                raise
    return _held(fresh)


def _refuse_held(dates: Dates, held: list[Row]) -> None:
    if not held:
        return
    by_whom = "; ".join(
        f"{row['business_date']} by {row['holder']} until "
        f"{row['lease_until'].astimezone(UTC):%H:%M} UTC"
        for row in sorted(held, key=lambda row: row["business_date"])[:5]
    )
    raise NightHeld(
        f"Another run holds {len(held)} of the nights {dates}: {by_whom}.",
        expected="nights that nobody works on.",
        remedy="wait until that run has ended; a dead run's lease ends by itself.",
    )


def _held(fresh: Night) -> Night:
    """Read back what the claim has won."""
    rows = fresh.lake.read(NIGHTS).where(fresh.dates.sql).collect()
    others = [row for row in rows if row["holder"] != fresh.holder]
    if others:
        fresh._save(release=True)
    _refuse_held(fresh.dates, others)
    pins: dict[str, int] = {}
    for row in rows:
        for name, version in row["pins"].items():
            pins[name] = max(version, pins.get(name, 0))
    jobs = [set(row["jobs"]) for row in rows]
    latest = max(rows, key=lambda row: row["updated_at"])
    finished = {name: Run.from_json(latest["jobs"][name]) for name in set.intersection(*jobs)}
    model_versions = {row["model_version"] for row in rows}
    model_version = model_versions.pop() if len(model_versions) == 1 else None
    return Night(fresh.lake, fresh.dates, fresh.holder, pins, model_version, finished)
