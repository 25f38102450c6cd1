"""Write the page that the risk team opens in the morning, and the list of alerts beside it.

Reads   transactions, scores, labels at the night's pins; alerts, quarantine, metrics, runs
Writes  <lake>/_reports/<date>/report.html and alerts.csv, each replaced whole
Fails   when the night was never begun

A night that a gate stopped, or that no model could score, gets its page too: it says so first,
and why. Such a night stays open, so its page is recorded in `runs` but does not end the night.

    fraud-scoring report --date 2018-08-08
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import functions as F

from feature_defs.errors import InputMissing, UsageError
from fraud_models.storage import write_bytes
from jobs.deliveries.mapping import Mapping
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.nights import Night, lease_nights
from jobs.lake.runs import Run, record_run
from jobs.lake.tables import NIGHTS, RUNS
from jobs.report_pages import alert_outcomes, page, page_data
from jobs.report_pages.night_status import NightRecord

FOLDER = "_reports"


def run(night: Night) -> str:
    """Write the page of a night that this process holds; returns where it is.

    Raises:
        InputMissing: the night was never begun.
    """
    if night.dates.num_nights != 1:
        raise UsageError(
            f"A report is about one night, not about {night.dates}.",
            expected="one date.",
            remedy="write the reports one by one with `fraud-scoring report --date D`.",
        )
    day = night.dates.first
    record = NightRecord(
        day,
        night.pins,
        night.model_version,
        night.finished,
        _attempts(night.lake, day),
        night.backfill,
    )
    if not record.begun:
        raise _never_begun(night.lake, day)
    if not record.waits_for_its_page:
        return _write_recorded(night.lake, record)
    with night.job("report") as own:
        own.versions_in = dict(night.pins)
        own.model_version = night.model_version
        return _write(night.lake, record, own)


def write_failed(lake: Lake, day: date) -> str:
    """Write the page of a night that was stopped, from its records; takes no lease.

    Raises:
        InputMissing: the night was never begun.
    """
    return _write_recorded(lake, _record(lake, day))


def write(lake: Lake, day: date) -> str:
    """Write the page of a night, whatever became of it; returns where it is.

    Raises:
        InputMissing: the night was never begun.
        NightHeld: another run works on it.
    """
    if not _record(lake, day).begun:
        raise _never_begun(lake, day)
    # Held also when the page ends nothing: a run at work would write its own page meanwhile.
    with lease_nights(lake, Dates(day, day)) as night:
        return run(night)


def _write_recorded(lake: Lake, record: NightRecord) -> str:
    """Write the page of an unfinished night, with a record that leaves the night open."""
    with record_run(lake, "report", Dates(record.day, record.day), {}) as own:
        return _write(lake, record, own)


def _write(lake: Lake, record: NightRecord, own: Run) -> str:
    facts = _facts(lake, record)
    html, alerts = page.render(facts), page.alerts_csv(facts)
    own.rows = {"alerts": len(facts.alerts)}
    own.figures = {"bytes": len(html.encode()), "folder": lake.path(FOLDER, str(record.day))}
    write_bytes(lake.path(FOLDER, str(record.day), "alerts.csv"), alerts.encode())
    # The page comes last: who sees it sees the list that belongs to it.
    uri = lake.path(FOLDER, str(record.day), "report.html")
    write_bytes(uri, html.encode())
    return uri


def _facts(lake: Lake, record: NightRecord) -> page.Facts:
    place = page_data.Place(lake, record.day, record.pins)
    return page.Facts(
        lake_uri=lake.uri,
        record=record,
        volumes=page_data.volumes(place, record.ingest),
        refusals=_refusals(place, record),
        # What people were shown stays, whatever is being run again.
        alerts=page_data.alerts(place) if "alerts" in record.finished else [],
        tails=page_data.tails(place),
        detected=alert_outcomes.detected(place, maturity_days=_maturity_days(record)),
        evaluation=alert_outcomes.evaluation(place, record.model_version),
        alert_budget=lake.settings.alert_budget,
    )


def _refusals(place: page_data.Place, record: NightRecord) -> list[page_data.Refusal]:
    if "ingest" in record.finished or record.ingest is None:
        return page_data.refusals(place)
    return page_data.refusals_recorded(record.ingest)


def _maturity_days(record: NightRecord) -> int | None:
    """Days after which no label means genuine, by the night's mapping; unset: it never does."""
    ingest = record.finished.get("ingest")
    content = ingest.arguments.get("mapping_content") if ingest else None
    return Mapping.model_validate_json(content).label_policy.maturity_days if content else None


def _record(lake: Lake, day: date) -> NightRecord:
    """What `nights` and `runs` say about a night.

    Raises:
        InputMissing: nothing.
    """
    lake.require()
    rows = lake.read(NIGHTS).where(F.col("business_date") == F.lit(day)).collect()
    if not rows:
        raise _never_begun(lake, day)
    finished = {name: Run.from_json(text) for name, text in rows[0]["jobs"].items()}
    return NightRecord(
        day,
        rows[0]["pins"],
        rows[0]["model_version"],
        finished,
        _attempts(lake, day),
        rows[0]["backfill"],
    )


def _never_begun(lake: Lake, day: date) -> InputMissing:
    return InputMissing(
        f"The night {day} was never begun in the lake {lake.uri}.",
        expected="a night that `ingest` has at least tried.",
        remedy=f"run `fraud-scoring nightly --date {day}`, or correct --date.",
    )


def _attempts(lake: Lake, day: date) -> tuple[Run, ...]:
    """Every run that worked on the night, oldest first."""
    covers = (F.col("first_date") <= F.lit(day)) & (F.col("last_date") >= F.lit(day))
    rows = lake.read(RUNS).where(covers).collect()
    return tuple(sorted(map(Run.from_row, rows), key=lambda attempt: attempt.started_at))
