"""The record of one execution of a job: what it read, wrote and decided, and how long it took.

The table `runs` is the source of truth for lineage. Delta commits carry the `run_id` in their
metadata.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from importlib.metadata import version as package_version
from typing import Any

from pyspark.sql import Row

from feature_defs.errors import without_passwords
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.local_rows import local_rows
from jobs.lake.tables import RUNS
from jobs.runtime.logs import log_event

MAX_ERROR_CHARACTERS = 4000


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def new_run_id(job: str) -> str:
    """Return a new run id: job name, start time (UTC) and a random suffix."""
    return f"{job}-{now():%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def actor() -> str:
    """Return the name of the user who runs this process, or the user id if it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@dataclass
class Run:
    """The record of one execution; the job fills it in while it runs."""

    job: str
    dates: Dates | None
    arguments: dict[str, Any]
    run_id: str = ""
    status: str = "running"
    started_at: datetime = field(default_factory=now)
    finished_at: datetime | None = None
    versions_in: dict[str, int] = field(default_factory=dict)
    versions_out: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    model_version: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        self.run_id = self.run_id or new_run_id(self.job)

    def finish(self, error: BaseException | None = None) -> None:
        """Close the record: as failed if there is an error, else as done."""
        self.finished_at = now()
        self.status = "done" if error is None else "failed"
        if error is not None:
            message = without_passwords(f"{type(error).__name__}: {error}")
            self.error = message[:MAX_ERROR_CHARACTERS]

    def to_json(self) -> str:
        """Return the record as JSON text, as `nights` stores it for each finished job."""
        row = asdict(self)
        row["dates"] = [self.dates.first, self.dates.last] if self.dates else None
        return json.dumps(row, default=_to_json_value, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Run:
        """Return the record that `to_json` has written."""
        row = json.loads(text)
        dates = row.pop("dates")
        for name in ("started_at", "finished_at"):
            row[name] = datetime.fromisoformat(row[name]) if row[name] else None
        return Run(
            dates=Dates(*(date.fromisoformat(day) for day in dates)) if dates else None, **row
        )

    @staticmethod
    def from_row(row: Row) -> Run:
        """Return the record in a row of `runs`."""
        dates = Dates(row["first_date"], row["last_date"]) if row["first_date"] else None
        return Run(
            job=row["job"],
            dates=dates,
            arguments=json.loads(row["arguments"]),
            run_id=row["run_id"],
            status=row["status"],
            # Spark returns naive times in the time zone of this machine.
            started_at=row["started_at"].astimezone(UTC),
            finished_at=row["finished_at"].astimezone(UTC),
            versions_in=row["versions_in"],
            versions_out=row["versions_out"],
            rows=row["rows"],
            gates=json.loads(row["gates"]),
            figures=json.loads(row["figures"]),
            model_version=row["model_version"],
            error=row["error"],
        )

    def as_row(self) -> tuple[Any, ...]:
        """Return the values in the order of the columns of `runs`."""
        finished = self.finished_at or now()
        return (
            self.run_id,
            self.job,
            self.dates.first if self.dates else None,
            self.dates.last if self.dates else None,
            self.status,
            actor(),
            self.started_at,
            finished,
            (finished - self.started_at).total_seconds(),
            self.versions_in,
            self.versions_out,
            self.rows,
            json.dumps(self.gates, default=_to_json_value),
            json.dumps(self.arguments, default=_to_json_value),
            json.dumps(self.figures, default=_to_json_value),
            self.model_version,
            package_version("fraud-scoring"),
            self.error,
        )


def _to_json_value(value: object) -> str:
    """Return a value that JSON has no type for as text; dates and times in ISO format."""
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)


def append_runs(lake: Lake, runs: Iterable[Run]) -> None:
    """Append finished runs to the table `runs` in one commit."""
    finished = list(runs)
    if finished:
        frame = local_rows(lake.spark, [run.as_row() for run in finished], RUNS.ddl)
        lake.append(RUNS, frame, finished[-1].run_id)


@contextmanager
def record_run(
    lake: Lake, job: str, dates: Dates | None, arguments: dict[str, Any]
) -> Iterator[Run]:
    """Run a job that belongs to no night, and add its record to `runs`, even if it fails."""
    run = Run(job, dates, arguments)
    log_event(f"{job} starts", job=job, run_id=run.run_id)
    try:
        yield run
    except BaseException as error:
        run.finish(error)
        append_runs(lake, [run])
        raise
    run.finish()
    append_runs(lake, [run])
    log_event(f"{job} has finished", job=job, run_id=run.run_id, **run.rows)
