"""Run all jobs of a night in order, in one process; resume after the last finished job.

Reads   the delivery from the source in the settings, or else from the source that the lake's
        first ingest recorded
Writes  all tables of a night, in at most twelve Delta commits
Fails   when one of its jobs fails; when a gate fails, the report is still written

    fraud-scoring nightly --lake L --date 2018-08-08
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, timedelta

from pyspark.sql import Row
from pyspark.sql import functions as F

from feature_defs.errors import GateFailed, InputMissing
from jobs import alerts, features, ingest, monitor, publish, report, score
from jobs.deliveries.delivery_history import default_delivery
from jobs.deliveries.readiness import check_ready, missing_markers
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
    """Run the unfinished jobs of a night and return the path of its report.

    Raises:
        InputMissing: the delivery is missing, or there is no champion yet.
        GateFailed: a gate failed; the report shows the failed checks.
        NightHeld: another run holds the lease of this night.
    """
    dates = Dates(day, day)
    finished = night_records(lake, dates).get(day, {})
    if "report" in finished:
        log_event(f"the night {day} is already done; nothing changes", date=day)
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
                score_again = name == "score" and staged_scores_unusable(night)
                if name not in night.finished or score_again:
                    job(night)
    except (GateFailed, InputMissing):
        report.write_failed(lake, day)
        raise
    return lake.path(report.FOLDER, str(day), "report.html")


def _require_previous_night_done(lake: Lake, delivery: Delivery, day: date) -> None:
    """Refuse to start while the previous night can still be processed.

    The features of a night count the rows of the nights before. A previous night that failed a gate
    does not block this one, but one whose run has died does.

    Raises:
        InputMissing: the previous night's delivery is complete but gate 1 has not checked it, or
            its run has died before it published features.
    """
    previous = Dates(day - timedelta(days=1), day - timedelta(days=1))
    up_to_previous = F.col("business_date") <= F.lit(previous.first)
    newest = lake.read(NIGHTS).where(up_to_previous).orderBy(F.desc("business_date")).head(1)
    if not newest:
        return
    row = newest[0] if newest[0]["business_date"] == previous.first else None
    if row and _is_abandoned(row):
        found = f"The previous night, {previous}, is unfinished because its run has died."
    elif (row and _has_gate_1_result(lake, row)) or not _is_delivered(delivery, previous):
        return
    else:
        found = f"The delivery of the previous night, {previous}, is complete but not processed."
    raise InputMissing(
        found,
        expected="nights in order: the features of a night count the rows of the nights before.",
        remedy=f"run `fraud-scoring nightly --date {previous}` first.",
    )


def _is_abandoned(row: Row) -> bool:
    """Return whether a night's lease owner has died before the night had features."""
    if row["holder"] is None or "features" in row["jobs"]:
        return False
    return is_dead(row["holder"]) or bool(row["lease_until"].astimezone(UTC) < now())


def _has_gate_1_result(lake: Lake, row: Row) -> bool:
    """Return whether gate 1 has passed or failed for a night's delivery."""
    if "ingest" in row["jobs"]:
        return True
    runs = runs_covering(lake, row["business_date"])
    return not runs.where("job = 'ingest' AND gates <> '[]'").isEmpty()


def _is_delivered(delivery: Delivery, dates: Dates) -> bool:
    """Return whether markers show that a delivery is complete; False without markers."""
    return delivery.mapping.readiness is not None and not missing_markers(delivery, dates)
