"""Keep a lake small and fast: delete what dead runs left, compact, vacuum.

Reads   `_staging/`, the tables' logs, `nights`, `runs`, the registry
Writes  the same rows in fewer files (no reader sees a difference); deletes dead staging folders
        and files that tables removed before the audit horizon; copies records missing in `runs`
Fails   when storage fails; a task that another run blocks is skipped and reported

Nothing that an audit can need is deleted (`jobs/lake/retention.py`): no file that was removed from
its table within the horizon (`audit_days`, or longer if a table's own properties say so), no
version that a run within the horizon has read, and no version that an unfinished night may still
read. A night that never finishes therefore keeps the files of its pinned versions; the output names
it.

    fraud-scoring maintain --lake L --dry-run
    fraud-scoring maintain --lake L
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from jobs.lake import compaction, night_state, retention, staging
from jobs.lake.delta_io import Lake
from jobs.lake.run_history import uncopied_runs
from jobs.lake.runs import Run, append_runs, now, record_run
from jobs.lake.tables import NIGHTS, RUNS, TABLES, Table
from jobs.models.model_store import has_model_of
from jobs.runtime.logs import log_event


@dataclass(frozen=True)
class MaintenanceTask:
    """One task: the table or folder it works on, a description, and the function that does it."""

    target: str
    planned: str
    do: Callable[[str], str]
    """Takes the id of the run and returns a description of the result."""


@dataclass(frozen=True)
class TaskResult:
    """The table or folder of a task, and what was done (or is planned) with it."""

    target: str
    outcome: str


def plan(lake: Lake) -> list[MaintenanceTask]:
    """Return all tasks that are worth doing now, without writing anything."""
    return [
        *_staging_tasks(lake),
        *_record_tasks(lake),
        *_compaction_tasks(lake),
        *_vacuum_tasks(lake),
    ]


def preview(tasks: list[MaintenanceTask]) -> list[TaskResult]:
    """Return what a run would do, without doing it."""
    return [TaskResult(task.target, task.planned) for task in tasks]


def run(lake: Lake, tasks: list[MaintenanceTask]) -> list[TaskResult]:
    """Do the planned tasks and record the results in `runs`."""
    results = []
    with record_run(lake, "maintain", None, {"audit_days": lake.settings.audit_days}) as record:
        for task in tasks:
            result = TaskResult(task.target, task.do(record.run_id))
            log_event(f"{result.target}: {result.outcome}", job="maintain", run_id=record.run_id)
            results.append(result)
        record.rows = {"chores": len(tasks)}
        record.figures = {"chores": [[result.target, result.outcome] for result in results]}
    return results


def show(results: list[TaskResult]) -> None:
    """Print one line per task."""
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True)
    for result in results:
        console.print(Text.assemble((f"{result.target}: ", "bold"), result.outcome))
    if not results:
        console.print("There is nothing to do.")


# -- staging and records -------------------------------------------------------------------------


def _staging_tasks(lake: Lake) -> Iterator[MaintenanceTask]:
    for staged in staging.examine(lake, partial(has_model_of, lake)):
        if staged.dead:
            delete = partial(_delete_staged, lake, staged)
            yield MaintenanceTask(f"_staging/{staged.name}", f"delete: {staged.why}", delete)


def _delete_staged(lake: Lake, staged: staging.Staged, _: str) -> str:
    lake.discard_staged(staged.name)
    return f"deleted: {staged.why}"


def _record_tasks(lake: Lake) -> Iterator[MaintenanceTask]:
    if uncopied := _uncopied(lake):
        ids = ", ".join(run.run_id for run in uncopied)
        yield MaintenanceTask(RUNS.name, f"copy from `nights`: {ids}", partial(_copy_records, lake))


def _copy_records(lake: Lake, _: str) -> str:
    # Read again, because a run that has ended since the plan has copied its records itself.
    uncopied = _uncopied(lake)
    append_runs(lake, uncopied)
    return f"copied from `nights`: {', '.join(run.run_id for run in uncopied) or 'none is left'}"


def _uncopied(lake: Lake) -> list[Run]:
    """Return the finished runs that `runs` lacks, except those of leased nights."""
    return uncopied_runs(lake, except_for=set(night_state.leased_nights(lake)))


# -- compaction ----------------------------------------------------------------------------------


def _compaction_tasks(lake: Lake) -> Iterator[MaintenanceTask]:
    closed = night_state.closed_nights(lake)
    for table in TABLES.values():
        if small := compaction.small_files(lake, table, closed):
            where = f" of {len(small.nights)} nights" if small.nights else ""
            planned = f"compact {small.num_files} small files{where}"
            yield MaintenanceTask(table.name, planned, partial(_compact, lake, table))


def _compact(lake: Lake, table: Table, run_id: str) -> str:
    # Read again, because a run may have leased a night since the plan was made.
    if table is NIGHTS and night_state.leased_nights(lake):
        return "skipped: a run is at work, and every run writes to this table"
    small = compaction.small_files(lake, table, night_state.closed_nights(lake))
    if small is None:
        return "skipped: a run is at work on its nights"
    files = compaction.compact(lake, small, run_id)
    if files is None:
        return "skipped: other runs wrote to this table during every attempt"
    return f"{files[0]} small files became {files[1]}"


# -- vacuum --------------------------------------------------------------------------------------


def _vacuum_tasks(lake: Lake) -> Iterator[MaintenanceTask]:
    pins = retention.oldest_pins(lake, now() - timedelta(days=lake.settings.audit_days))
    for table in TABLES.values():
        if missing := retention.short_properties(lake, table):
            days = lake.settings.audit_days
            extend = partial(_extend_retention, lake, table)
            planned = f"keep log and files for {days} days ({', '.join(missing)})"
            yield MaintenanceTask(table.name, planned, extend)
        expired = retention.expired(lake, table, pins.get(table.name))
        if expired.unreadable_pin:
            report = partial(_report_unreadable_pin, expired)
            yield MaintenanceTask(table.name, _unreadable_pin_text(expired), report)
        if expired.num_files or expired.needed_by:
            vacuum = partial(_vacuum, lake, expired)
            yield MaintenanceTask(table.name, f"vacuum: {_expired_text(expired)}", vacuum)


def _extend_retention(lake: Lake, table: Table, _: str) -> str:
    if night_state.leased_nights(lake):
        return "skipped: a run is at work; its properties stay as they are"
    retention.extend_retention(lake, table)
    return f"keeps log and files for {lake.settings.audit_days} days from now on"


def _report_unreadable_pin(expired: retention.Expired, _: str) -> str:
    # Nothing can restore the version; the result only records that an audit will fail.
    return _unreadable_pin_text(expired)


def _unreadable_pin_text(expired: retention.Expired) -> str:
    return (
        f"{expired.unreadable_pin} reads a version that the table's log no longer has; "
        "it can no longer be audited"
    )


def _expired_text(expired: retention.Expired) -> str:
    at_least = "at least " if expired.num_files >= retention.MAX_LISTED else ""
    text = (
        f"{at_least}{expired.num_files} files and folders that left the table over "
        f"{expired.hours // 24} days ago"
    )
    return f"{text}; {expired.needed_by} needs newer files" if expired.needed_by else text


def _vacuum(lake: Lake, expired: retention.Expired, run_id: str) -> str:
    if expired.num_files:
        retention.vacuum(lake, expired, run_id)
    return f"deleted {_expired_text(expired)}"
