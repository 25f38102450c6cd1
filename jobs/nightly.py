"""All of a night's jobs in order, in one process, resuming after the last one that finished.

Reads   what the delivery brought; its source is what the settings say, else what the lake's
        first ingest recorded
Writes  everything a night has: at most twelve Delta commits
Fails   as its jobs do; a gate that said no still gets its report

    fraud-scoring nightly --lake L --date 2018-08-08
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, timedelta

from pyspark.sql import Row
from pyspark.sql import functions as F

from feature_defs.errors import GateFailed, InputMissing
from jobs import alerts, features, ingest, monitor, publish, report, score
from jobs.deliveries.earlier_deliveries import default_delivery
from jobs.deliveries.readiness import check_ready, unmarked
from jobs.deliveries.source import Delivery
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.lease_owners import is_dead
from jobs.lake.nights import Night, lease_nights
from jobs.lake.run_history import night_records, runs_covering
from jobs.lake.runs import now
from jobs.lake.tables import NIGHTS
from jobs.runtime.logs import log_event
from jobs.score import staged_scores_unusable

AFTER_INGEST: tuple[tuple[str, Callable[[Night], object]], ...] = (
    ("features", features.run),
    ("score", score.run),
    ("publish", publish.run),
    ("alerts", alerts.run),
    ("monitor", monitor.run),
    ("report", report.run),
)


def run(lake: Lake, day: date) -> str:
    """Run what is left to do of a night; returns the place of its report.

    Raises:
        InputMissing: the delivery is not there, or there is no champion yet.
        GateFailed: a gate said no; the report says why.
        NightHeld: another run works on this night.
    """
    dates = Dates(day, day)
    finished = night_records(lake, dates).get(day, {})
    if "report" in finished:
        log_event(f"the night {day} is done already; nothing changes", date=day)
        return lake.path(report.FOLDER, str(day), "report.html")
    delivery = default_delivery(lake)
    if "ingest" not in finished:
        check_ready(lake, delivery, dates)
        _require_previous_night_done(lake, delivery, day)
    try:
        with lease_nights(lake, dates) as night:
            if "ingest" not in night.finished:
                ingest.run(night, delivery)
            for name, job in AFTER_INGEST:
                lost = name == "score" and staged_scores_unusable(night)
                if name not in night.finished or lost:
                    job(night)
    except (GateFailed, InputMissing):
        report.write_failed(lake, day)
        raise
    return lake.path(report.FOLDER, str(day), "report.html")


def _require_previous_night_done(lake: Lake, delivery: Delivery, day: date) -> None:
    """Let the night before go first when it could: this one's features count its rows.

    A night that a gate has stopped does not hold up the next one; one whose run has died does.

    Raises:
        InputMissing: the delivery of the night before is there and nobody has begun with it, or
            its run has died before it had features.
    """
    before = Dates(day - timedelta(days=1), day - timedelta(days=1))
    until_then = F.col("business_date") <= F.lit(before.first)
    newest = lake.read(NIGHTS).where(until_then).orderBy(F.desc("business_date")).head(1)
    if not newest:
        return
    row = newest[0] if newest[0]["business_date"] == before.first else None
    if row and _was_left(row):
        found = f"The night before, {before}, was left in the middle: its run has died."
    elif (row and _was_judged(lake, row)) or not _is_there(delivery, before):
        return
    else:
        found = f"The delivery of the night before, {before}, is there and has not been worked on."
    raise InputMissing(
        found,
        expected="nights in their order: the features of a night count the rows of those before.",
        remedy=f"run `fraud-scoring nightly --date {before}` first.",
    )


def _was_left(row: Row) -> bool:
    """Whether a night's holder has died on it, and later nights lack what it was to bring."""
    if row["holder"] is None or "features" in row["jobs"]:
        return False
    return is_dead(row["holder"]) or bool(row["lease_until"].astimezone(UTC) < now())


def _was_judged(lake: Lake, row: Row) -> bool:
    """Whether gate 1 has looked at a night's delivery, and let it in or stopped it."""
    if "ingest" in row["jobs"]:
        return True
    runs = runs_covering(lake, row["business_date"])
    return not runs.where("job = 'ingest' AND gates <> '[]'").isEmpty()


def _is_there(delivery: Delivery, dates: Dates) -> bool:
    """A day that brings nothing is skipped, and without markers nobody can tell."""
    return delivery.mapping.readiness is not None and not unmarked(delivery, dates)
