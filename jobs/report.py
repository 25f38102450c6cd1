"""Write the page that the risk team opens in the morning, and the list of alerts beside it.

Reads   transactions, scores, labels at the night's pinned versions; alerts, quarantine, metrics,
        runs
Writes  <lake>/_reports/<date>/report.html and alerts.csv, each replaced whole
Fails   when the night was never begun

A night that a gate stopped, or that no model could score, gets a page too, which begins with the
reason. Such a night stays open: its page is recorded in `runs` and does not finish the night.

    fraud-scoring report --lake L --date 2018-08-08
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import functions as F

from feature_defs.errors import InputMissing, UsageError
from fraud_models.storage import join, write_bytes
from jobs.deliveries.mapping import Mapping
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.nights import Night, lease_nights
from jobs.lake.run_history import runs_covering
from jobs.lake.runs import Run, record_run
from jobs.lake.tables import NIGHTS
from jobs.report_pages import alert_outcomes, page, page_data
from jobs.report_pages.night_status import NightRecord

FOLDER = "_reports"


def run(night: Night) -> str:
    """Write the page of a leased night; return its path.

    Raises:
        UsageError: several nights are leased; write their reports one by one.
        InputMissing: the night was never begun.
    """
    if night.dates.num_nights != 1:
        raise UsageError(
            f"A report is about one night, and {night.dates} are several.",
            expected="one date.",
            remedy="write the reports one by one with `fraud-scoring report --date D`.",
        )
    lake, day = night.lake, night.dates.first
    record = NightRecord(
        day,
        night.pins,
        night.model_version,
        night.finished,
        _runs_of_night(lake, day),
        night.backfill,
    )
    if not record.begun:
        raise _never_begun(lake, day)
    if not record.only_report_missing:
        return _write_unfinished(lake, record)
    with night.job("report") as own:
        own.versions_in = dict(night.pins)
        own.model_version = night.model_version
        return _write_files(lake, _read_page(lake, record), own)


def write_failed(lake: Lake, day: date) -> str:
    """Write the page of a night that was stopped, from its records and without a lease.

    Raises:
        InputMissing: the night was never begun.
    """
    return _write_unfinished(lake, _read_record(lake, day))


def write(lake: Lake, day: date) -> str:
    """Lease a night and write its page, whatever its state; return the path.

    Raises:
        InputMissing: the night was never begun.
        NightHeld: another run has leased it.
    """
    if not _read_record(lake, day).begun:
        raise _never_begun(lake, day)
    # A lease is needed for an unfinished night too: the run that works on it writes its own page.
    with lease_nights(lake, Dates(day, day)) as night:
        return run(night)


def _write_unfinished(lake: Lake, record: NightRecord) -> str:
    """Write the page of an unfinished night; its record in `runs` leaves the night open."""
    with record_run(lake, "report", Dates(record.day, record.day), {}) as own:
        return _write_files(lake, _read_page(lake, record), own)


# -- read ----------------------------------------------------------------------------------------


def _read_record(lake: Lake, day: date) -> NightRecord:
    """Read what `nights` and `runs` say about a night.

    Raises:
        InputMissing: they say nothing; the night was never begun.
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
        _runs_of_night(lake, day),
        rows[0]["backfill"],
    )


def _runs_of_night(lake: Lake, day: date) -> tuple[Run, ...]:
    """Return every run that worked on the night, oldest first."""
    rows = runs_covering(lake, day).collect()
    return tuple(sorted(map(Run.from_row, rows), key=lambda run: run.started_at))


def _never_begun(lake: Lake, day: date) -> InputMissing:
    return InputMissing(
        f"The night {day} was never begun in the lake {lake.uri}.",
        expected="a night that `ingest` has at least tried.",
        remedy=f"run `fraud-scoring nightly --date {day}`, or correct --date.",
    )


def _read_page(lake: Lake, record: NightRecord) -> page.PageData:
    """Read all that the page shows, at the versions that the night has pinned."""
    source = page_data.ReportSource(lake, record.day, record.pins)
    return page.PageData(
        lake_uri=lake.uri,
        record=record,
        volumes=page_data.volumes(source, record.ingest),
        quarantine_reasons=_quarantine_reasons(source, record),
        # Published alerts stay on the page while the night is run again.
        alerts=page_data.alerts(source) if "alerts" in record.finished else [],
        score_distribution=page_data.score_distribution(source),
        outcomes=alert_outcomes.mature_outcomes(source, maturity_days=_maturity_days(record)),
        evaluation=alert_outcomes.latest_metrics(source, record.model_version),
        alert_budget=lake.settings.alert_budget,
    )


def _quarantine_reasons(
    source: page_data.ReportSource, record: NightRecord
) -> list[page_data.QuarantineReason]:
    if "ingest" in record.finished or record.ingest is None:
        return page_data.quarantine_reasons(source)
    return page_data.recorded_quarantine_reasons(record.ingest)


def _maturity_days(record: NightRecord) -> int | None:
    """Return the days after which a missing label means genuine; None when it never does."""
    ingest = record.finished.get("ingest")
    content = ingest.arguments.get("mapping_content") if ingest else None
    return Mapping.model_validate_json(content).label_policy.maturity_days if content else None


# -- render and write ----------------------------------------------------------------------------


def _write_files(lake: Lake, data: page.PageData, own: Run) -> str:
    folder = lake.path(FOLDER, str(data.record.day))
    html, alerts = page.render(data), page.alerts_csv(data)
    own.rows = {"alerts": len(data.alerts)}
    own.figures = {"bytes": len(html.encode()), "folder": folder}
    write_bytes(join(folder, "alerts.csv"), alerts.encode())
    # The page is written last, so that its list of alerts is there when a reader opens it.
    uri = join(folder, "report.html")
    write_bytes(uri, html.encode())
    return uri
