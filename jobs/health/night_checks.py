"""Check the nights of a lake for `doctor`: what interrupted runs left incomplete."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from functools import partial

from pyspark.sql import functions as F

from feature_defs.errors import join_first
from jobs.health.check_result import CheckResult
from jobs.lake import staging
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.lease_owners import is_dead
from jobs.lake.night_state import leased_nights
from jobs.lake.run_history import night_records, uncopied_runs
from jobs.lake.runs import now
from jobs.lake.tables import NIGHTS, RUNS, TABLES, Table
from jobs.models.model_store import has_model_of

# Number of newest commits per table that are checked; a night makes one or two.
RECENT_COMMITS = 200
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def check_nights(lake: Lake) -> CheckResult:
    """Check which nights are done, leased, or left unfinished by a dead run."""
    columns = ("business_date", "state", "holder", "lease_until")
    rows = lake.read(NIGHTS).select(*columns).orderBy(F.desc("business_date")).collect()
    leased = {row["business_date"]: row for row in rows if row["holder"]}
    moment = now()
    dead = [
        day
        for day, row in leased.items()
        if is_dead(row["holder"]) or row["lease_until"].astimezone(UTC) < moment
    ]
    waiting = [row["business_date"] for row in rows if row["state"] != "done" and not row["holder"]]
    found = (
        f"{len(rows)} begun, {sum(row['state'] == 'done' for row in rows)} done, "
        f"{len(leased) - len(dead)} leased"
    )
    if waiting:
        found += f", {len(waiting)} without a report yet ({join_first(waiting)})"
    if dead:
        remedy = "rerun those nights with `fraud-scoring nightly`; their leases have expired."
        return CheckResult(
            "nights", "warning", f"{found}; a run died in {join_first(dead)}", remedy
        )
    return CheckResult("nights", "ok", found)


def check_gaps(lake: Lake) -> CheckResult:
    """Check that no night between the first and the last finished night is missing."""
    rows = lake.read(NIGHTS).select("business_date", "state").collect()
    states = {row["business_date"]: row["state"] for row in rows}
    done = [day for day, state in states.items() if state == "done"]
    if not done:
        return CheckResult("gaps", "ok", "no night is done yet")
    span = [min(done) + timedelta(days=n) for n in range((max(done) - min(done)).days + 1)]
    still_open = [day for day in span if states.get(day, "done") != "done"]
    missing = [day for day in span if day not in states]
    found = [f"never begun: {join_first(missing)}"] if missing else []
    found += [f"open, though a later night is done: {join_first(still_open)}"] if still_open else []
    if not found:
        return CheckResult("gaps", "ok", f"none from {span[0]} to {span[-1]}")
    remedy = (
        "run `fraud-scoring nightly` for these nights, oldest first; skip days without a delivery."
    )
    return CheckResult("gaps", "warning", "; ".join(found), remedy)


def check_run_records(lake: Lake) -> CheckResult:
    """Check that `runs` has the record of every finished job."""
    missing = uncopied_runs(lake, except_for=set(leased_nights(lake)))
    if not missing:
        return CheckResult("records", "ok", "`runs` has every finished job of every night")
    ids = join_first([run.run_id for run in missing])
    remedy = "run `fraud-scoring maintain`; it copies them from `nights`."
    return CheckResult("records", "warning", f"missing in `runs`: {ids}", remedy)


def check_staging(lake: Lake) -> CheckResult:
    """Check that no dead run left files in `_staging/`."""
    entries = staging.examine(lake, partial(has_model_of, lake))
    if not entries:
        return CheckResult("staging", "ok", "empty")
    dead = [item.name for item in entries if item.dead]
    kept = [f"{item.name} ({item.why})" for item in entries if not item.dead]
    found_kept = f"kept: {join_first(kept)}" if kept else ""
    if not dead:
        return CheckResult("staging", "ok", found_kept)
    found_all = f"left by dead runs: {join_first(dead)}"
    if kept:
        found_all += f"; {found_kept}"
    remedy = "run `fraud-scoring maintain`; it removes these files."
    return CheckResult("staging", "warning", found_all, remedy)


# -- publications --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Commit:
    """A commit that replaced nights of a table."""

    table: Table
    version: int
    run_id: str
    dates: Dates


def check_publications(lake: Lake) -> CheckResult:
    """Check that every publication has the record of its run.

    A run can die after it published and before it recorded that. Its night keeps the earlier
    pinned versions, and the rerun publishes again. Until then the newest version of the table
    contains rows that no run record accounts for.
    """
    commits = [commit for table in TABLES.values() for commit in _commits(lake, table)]
    finished = _finished_runs(lake, {commit.run_id for commit in commits})
    leased = set(leased_nights(lake))
    unrecorded = [
        commit
        for commit in commits
        if commit.run_id not in finished and not leased & set(commit.dates.days)
    ]
    orphaned = [commit for commit in unrecorded if not _published_again(lake, commit)]
    if not orphaned:
        return CheckResult("publications", "ok", "each one is recorded by its run")
    found = join_first([f"{item.table.name} {item.dates} by {item.run_id}" for item in orphaned])
    days = sorted({day for item in orphaned for day in item.dates.days})
    remedy = f"rerun `fraud-scoring nightly` for {join_first(days)}."
    return CheckResult("publications", "wrong", f"published but never recorded: {found}", remedy)


def _commits(lake: Lake, table: Table) -> Iterator[_Commit]:
    if not table.partitioned_by or not lake.has(table):
        return
    history = lake.delta_table(table).history(RECENT_COMMITS)
    columns = ("version", "userMetadata", "operationParameters")
    for row in history.where("userMetadata IS NOT NULL").select(*columns).collect():
        predicate = (row["operationParameters"] or {}).get("predicate", "")
        replaced = [date.fromisoformat(day) for day in _DAY.findall(predicate)]
        run_id = json.loads(row["userMetadata"]).get("run_id")
        if replaced and run_id:
            dates = Dates(min(replaced), max(replaced))
            yield _Commit(table, row["version"], run_id, dates)


def _finished_runs(lake: Lake, run_ids: set[str]) -> set[str]:
    """Return the runs that are recorded as done in `runs` or `nights`."""
    done = lake.read(RUNS).where((F.col("status") == "done") & F.col("run_id").isin(list(run_ids)))
    finished = {row["run_id"] for row in done.select("run_id").collect()}
    return finished | {run.run_id for run in uncopied_runs(lake, except_for=set())}


def _published_again(lake: Lake, commit: _Commit) -> bool:
    """Return whether every night of a commit has a record of a later publication of the table."""
    later = [
        any(run.versions_out.get(commit.table.name, -1) > commit.version for run in jobs.values())
        for jobs in night_records(lake, commit.dates).values()
    ]
    return len(later) == commit.dates.num_nights and all(later)
