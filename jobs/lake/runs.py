"""One execution of one job: what it read, wrote, decided, and how long it took.

The table `runs` is the truth of lineage; Delta commits carry the `run_id` in their metadata.
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
from jobs.lake.tables import RUNS
from jobs.runtime.logs import log_event

MAX_ERROR_CHARACTERS = 4000


def now() -> datetime:
    """This moment, UTC."""
    return datetime.now(UTC)


def new_run_id(job: str) -> str:
    """An id that sorts by time and says which job it was."""
    return f"{job}-{now():%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def actor() -> str:
    """Who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@dataclass
class Run:
    """The record of one execution, filled while the job runs."""

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
        """Close the record, as failed when there is an error."""
        self.finished_at = now()
        self.status = "done" if error is None else "failed"
        if error is not None:
            told = without_passwords(f"{type(error).__name__}: {error}")
            self.error = told[:MAX_ERROR_CHARACTERS]

    def to_json(self) -> str:
        """The row of `runs` as text; `nights` keeps it beside each finished job."""
        row = asdict(self)
        row["dates"] = [self.dates.first, self.dates.last] if self.dates else None
        return json.dumps(row, default=_plain, sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Run:
        """Inverse of `to_json`."""
        row = json.loads(text)
        dates = row.pop("dates")
        for name in ("started_at", "finished_at"):
            row[name] = datetime.fromisoformat(row[name]) if row[name] else None
        return Run(
            dates=Dates(*(date.fromisoformat(day) for day in dates)) if dates else None, **row
        )

    @staticmethod
    def from_row(row: Row) -> Run:
        """The run that a row of `runs` is about."""
        dates = Dates(row["first_date"], row["last_date"]) if row["first_date"] else None
        return Run(
            job=row["job"],
            dates=dates,
            arguments=json.loads(row["arguments"]),
            run_id=row["run_id"],
            status=row["status"],
            # Spark hands out times of this machine's zone, without saying so.
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
        """Values in the order of the table's columns."""
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
            json.dumps(self.gates, default=_plain),
            json.dumps(self.arguments, default=_plain),
            json.dumps(self.figures, default=_plain),
            self.model_version,
            package_version("fraud-scoring"),
            self.error,
        )


def _plain(value: object) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)


def append_runs(lake: Lake, runs: Iterable[Run]) -> None:
    """Add finished runs to the table in one commit."""
    finished = list(runs)
    if finished:
        frame = lake.spark.createDataFrame([run.as_row() for run in finished], RUNS.ddl)
        lake.append(RUNS, frame.coalesce(1), finished[-1].run_id)


@contextmanager
def record_run(
    lake: Lake, job: str, dates: Dates | None, arguments: dict[str, Any]
) -> Iterator[Run]:
    """Run a job that belongs to no night; its record is added to `runs`, also when it fails."""
    run = Run(job, dates, arguments)
    log_event(f"{job} begins", job=job, run_id=run.run_id)
    try:
        yield run
    except BaseException as error:
        run.finish(error)
        append_runs(lake, [run])
        raise
    run.finish()
    append_runs(lake, [run])
    log_event(f"{job} is done", job=job, run_id=run.run_id, **run.rows)
