"""Keep a lake small and quick: sweep what dead runs left, compact, vacuum.

Reads   `_staging/`, the tables' logs, `nights`, `runs`, the registry
Writes  the same rows in fewer files (no reader sees a difference); deletes dead staging, and files
        that left their table longer ago than the audit horizon; copies records that `runs` lacks
Fails   when storage does; where another run is at work it steps aside and says so

Nothing that an audit can ask for is deleted (`jobs/lake/retention.py`): neither inside the horizon
(`audit_days`, or longer where a table's own properties say so) nor what a run inside it has read,
nor what a night that is not done may still read. A night that stays open for ever therefore keeps
what it has pinned; it is named.

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
    """One thing to do: what it is about, what is planned, and doing it in the name of a run."""

    about: str
    planned: str
    do: Callable[[str], str]
    """Takes the id of the run and returns what came of it."""


@dataclass(frozen=True)
class Line:
    """What is said about a chore."""

    about: str
    said: str


def plan(lake: Lake) -> list[MaintenanceTask]:
    """All that is worth doing now; nothing is written."""
    return [*_sweeping(lake), *_copying(lake), *_compacting(lake), *_vacuuming(lake)]


def preview(chores: list[MaintenanceTask]) -> list[Line]:
    """What a run would do."""
    return [Line(chore.about, chore.planned) for chore in chores]


def run(lake: Lake, chores: list[MaintenanceTask]) -> list[Line]:
    """Do what was planned; recorded in `runs`."""
    lines = []
    with record_run(lake, "maintain", None, {"audit_days": lake.settings.audit_days}) as record:
        for chore in chores:
            lines.append(Line(chore.about, chore.do(record.run_id)))
            log_event(f"{chore.about}: {lines[-1].said}", job="maintain", run_id=record.run_id)
        record.rows = {"chores": len(chores)}
        record.figures = {"chores": [[line.about, line.said] for line in lines]}
    return lines


def show(lines: list[Line]) -> None:
    """Print what was done, or would be."""
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True)
    for line in lines:
        console.print(Text.assemble((f"{line.about}: ", "bold"), line.said))
    if not lines:
        console.print("There is nothing to do.")


# -- staging and records -------------------------------------------------------------------------


def _sweeping(lake: Lake) -> Iterator[MaintenanceTask]:
    for staged in staging.examine(lake, partial(has_model_of, lake)):
        if staged.dead:
            sweep = partial(_sweep, lake, staged)
            yield MaintenanceTask(f"_staging/{staged.name}", f"sweep: {staged.why}", sweep)


def _sweep(lake: Lake, staged: staging.Staged, _: str) -> str:
    lake.discard_staged(staged.name)
    return f"swept: {staged.why}"


def _copying(lake: Lake) -> Iterator[MaintenanceTask]:
    if uncopied := _uncopied(lake):
        ids = ", ".join(run.run_id for run in uncopied)
        yield MaintenanceTask(RUNS.name, f"copy from `nights`: {ids}", partial(_copy, lake))


def _copy(lake: Lake, _: str) -> str:
    # Looked at again: a run copies its records by itself when it ends.
    uncopied = _uncopied(lake)
    append_runs(lake, uncopied)
    return f"copied from `nights`: {', '.join(run.run_id for run in uncopied) or 'nothing is left'}"


def _uncopied(lake: Lake) -> list[Run]:
    return uncopied_runs(lake, except_for=set(night_state.leased_nights(lake)))


# -- compaction ----------------------------------------------------------------------------------


def _compacting(lake: Lake) -> Iterator[MaintenanceTask]:
    closed = night_state.closed_nights(lake)
    for table in TABLES.values():
        if small := compaction.small_files(lake, table, closed):
            where = f" of {len(small.nights)} nights" if small.nights else ""
            planned = f"make fewer of {small.num_files} small files{where}"
            yield MaintenanceTask(table.name, planned, partial(_compact, lake, table))


def _compact(lake: Lake, table: Table, run_id: str) -> str:
    # Looked at again: since the plan was made somebody may have taken a night.
    if table is NIGHTS and night_state.leased_nights(lake):
        return "left as it is: a run is at work, and all of them write to this table"
    small = compaction.small_files(lake, table, night_state.closed_nights(lake))
    if small is None:
        return "left as it is: a run is at work on its nights"
    files = compaction.compact(lake, small, run_id)
    if files is None:
        return "left as it is: others wrote to it each time this was tried"
    return f"{files[0]} small files became {files[1]}"


# -- vacuum --------------------------------------------------------------------------------------


def _vacuuming(lake: Lake) -> Iterator[MaintenanceTask]:
    pins = retention.oldest_pins(lake, now() - timedelta(days=lake.settings.audit_days))
    for table in TABLES.values():
        if missing := retention.short_properties(lake, table):
            days = lake.settings.audit_days
            lengthen = partial(_lengthen, lake, table)
            planned = f"keep log and files for {days} days ({', '.join(missing)})"
            yield MaintenanceTask(table.name, planned, lengthen)
        old = retention.expired(lake, table, pins.get(table.name))
        if old.lost:
            yield MaintenanceTask(table.name, _lost(old), partial(_name_lost, old))
        if old.num_files or old.held_by:
            yield MaintenanceTask(
                table.name, f"vacuum: {_vacuum_words(old)}", partial(_vacuum, lake, old)
            )


def _lengthen(lake: Lake, table: Table, _: str) -> str:
    if night_state.leased_nights(lake):
        return "its properties stay as they are for now: a run is at work"
    retention.lengthen(lake, table)
    return f"keeps log and files for {lake.settings.audit_days} days from now on"


def _name_lost(old: retention.Expired, _: str) -> str:
    return _lost(old)


def _lost(old: retention.Expired) -> str:
    return f"{old.lost} has read what is older than the table's log, so it cannot be audited"


def _vacuum_words(old: retention.Expired) -> str:
    listed = f"at least {old.num_files}" if old.num_files >= retention.MAX_LISTED else old.num_files
    words = f"{listed} files and folders that left the table over {old.hours // 24} days ago"
    return f"{words}; {old.held_by} needs what is newer" if old.held_by else words


def _vacuum(lake: Lake, old: retention.Expired, run_id: str) -> str:
    if old.num_files:
        retention.vacuum(lake, old, run_id)
    return f"deleted {_vacuum_words(old)}"
