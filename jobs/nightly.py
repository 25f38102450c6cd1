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

from feature_defs.problems import GateFailed, InputMissing, UsageProblem
from jobs import alerts, features, ingest, monitor, publish, report, score
from jobs.delivery import check_ready, unmarked
from jobs.earlier_deliveries import recorded_delivery
from jobs.lake.delta_io import Dates, Lake
from jobs.lake.holders import is_dead
from jobs.lake.lineage import night_records, runs_covering
from jobs.lake.nights import Night, hold
from jobs.lake.runs import now
from jobs.lake.tables import NIGHTS, SCORES
from jobs.logs import say
from jobs.mapping import load_mapping
from jobs.source import Delivery

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
        say(f"the night {day} is done already; nothing changes", date=day)
        return lake.path(report.FOLDER, str(day), "report.html")
    delivery = usual_delivery(lake)
    if "ingest" not in finished:
        check_ready(lake, delivery, dates)
        _yield_to_the_night_before(lake, delivery, day)
    try:
        with hold(lake, dates) as night:
            if "ingest" not in night.finished:
                ingest.run(night, delivery)
            for name, job in AFTER_INGEST:
                lost = name == "score" and must_score_again(night)
                if name not in night.finished or lost:
                    job(night)
    except (GateFailed, InputMissing):
        report.write_failed(lake, day)
        raise
    return lake.path(report.FOLDER, str(day), "report.html")


def _yield_to_the_night_before(lake: Lake, delivery: Delivery, day: date) -> None:
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


def usual_delivery(lake: Lake) -> Delivery:
    """What the settings name, else what the lake's first ingest recorded.

    Raises:
        UsageProblem: the settings name a source but not its format and mapping.
    """
    settings = lake.settings
    if settings.source is None:
        return recorded_delivery(lake)
    if settings.source_format is None or settings.mapping is None:
        raise UsageProblem(
            f"The settings name the source {settings.source} but not how to read it.",
            expected="`source`, `source_format` and `mapping` together.",
            remedy="add what is missing to the configuration, or leave all three out.",
        )
    return Delivery(settings.source, settings.source_format, load_mapping(settings.mapping))


def must_score_again(night: Night) -> bool:
    """Whether staged scores were lost before they could be published, or are of other nights too.

    A backfill that was stopped leaves those of all its nights in one place.
    """
    if "score" not in night.finished or "publish" in night.finished:
        return False
    scored = night.finished["score"]
    return scored.dates != night.dates or not night.lake.staged(scored.run_id, SCORES.name)
