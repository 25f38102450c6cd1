"""Render a night's data as the HTML page and as the CSV list of alerts.

All text is escaped, because card ids, merchant ids, reasons and error messages are external input.
A CSV cell that a spreadsheet would evaluate as a formula gets a leading apostrophe.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import jinja2
from markupsafe import Markup, escape

from jobs.lake.nights import JOBS
from jobs.lake.runs import Run
from jobs.quality.rows.rules import sentence as sentence_of_rule
from jobs.report_pages import wording
from jobs.report_pages.alert_outcomes import AlertOutcome, EvaluationMetric
from jobs.report_pages.night_status import NightRecord, earlier_failures, gates, night_status
from jobs.report_pages.page_data import (
    ALERTS_ON_PAGE,
    Alert,
    QuarantineReason,
    ScoreDistribution,
    Volume,
)
from jobs.runtime.logs import escape_control_characters

CSV_COLUMNS = (
    "business_date",
    "rank",
    "card_id",
    "merchant_id",
    "transaction_id",
    "event_time",
    "amount",
    "score",
    "rarity",
    "num_transactions",
    "reason_1",
    "reason_2",
    "reason_3",
)
# Matches each position where a spreadsheet could read a formula: the start of a field, and after a
# separator on which some spreadsheets split. Some also skip leading blanks and quotes. Other white
# space and control characters are already escaped here.
FORMULA_START = re.compile(r"(^|[;,|])(?=[ \"]*[=+\-@\uff1d\uff0b\uff0d\uff20])")


@dataclass(frozen=True)
class PageData:
    """All data that the page of a night shows."""

    lake_uri: str
    record: NightRecord
    volumes: Sequence[Volume]
    quarantine_reasons: Sequence[QuarantineReason]
    alerts: Sequence[Alert]
    score_distribution: ScoreDistribution
    outcomes: Sequence[AlertOutcome]
    evaluation: Sequence[EvaluationMetric]
    alert_budget: int

    @property
    def tonight(self) -> Volume:
        """Return the row counts of the night itself."""
        return next(volume for volume in self.volumes if volume.day == self.record.day)

    @property
    def threshold(self) -> float | None:
        """Return the alert threshold that the jobs of the night recorded; None if there is none."""
        for job in ("alerts", "publish", "score"):
            value = self._figures(job).get("threshold")
            if value is not None:
                return float(value)
        return None

    @property
    def drift(self) -> Mapping[str, Any]:
        """Return the metrics that `monitor` recorded; empty when it has not run."""
        return self._figures("monitor")

    def _figures(self, job: str) -> Mapping[str, Any]:
        run = self.record.finished.get(job)
        return run.figures if run else {}


@dataclass(frozen=True)
class DriftRow:
    """One row of the drift table."""

    name: str
    psi: float | None
    level: str


def drift_rows(metrics: Mapping[str, Any]) -> list[DriftRow]:
    """Return the drift of scores, then of features, each sorted by falling PSI."""
    rows = [
        [
            DriftRow(name, entry.get("psi"), str(entry.get("level", "")))
            for name, entry in metrics.get(group, {}).get("columns", {}).items()
        ]
        for group in ("scores", "features")
    ]
    return [row for group in rows for row in sorted(group, key=lambda d: -(d.psi or -1.0))]


def reasons_in_words(alert: Alert) -> list[str]:
    """Return the reasons of an alert, one sentence each."""
    return [wording.sentence(*reason) for reason in alert.reasons]


def render(data: PageData) -> str:
    """Return the page as one self-contained HTML document."""
    environment = jinja2.Environment(
        finalize=shown,
        loader=jinja2.PackageLoader("jobs", "report_pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        money=wording.money,
        percent=wording.percent,
        rarity_text=wording.rarity_text,
        feature_label=wording.label,
        count=lambda value: f"{value:,}",
        metric=lambda value: "-" if value is None else f"{value:.3f}",
        coded=coded,
        long_date=_long_date,
        spaced=lambda name: name.replace("_", " "),
        moment=lambda text, day: text.removeprefix(f"{day} "),
    )
    return environment.get_template("report.html").render(
        data=data,
        record=data.record,
        day=data.record.day,
        status=night_status(data.record),
        gates=gates(data.record),
        runs=_runs(data.record),
        champion_evaluated=any(
            metric.is_of(data.record.model_version) for metric in data.evaluation
        ),
        failures=earlier_failures(data.record),
        alerts=data.alerts[:ALERTS_ON_PAGE],
        reasons=reasons_in_words,
        drift=drift_rows(data.drift),
        charts=_charts(data),
        sentence_of_rule=sentence_of_rule,
    )


def shown(value: object) -> object:
    """Return a value for the page, with control and bidirectional characters escaped.

    Line breaks are kept.

    >>> shown("a\\u202eb")
    'a\\\\u202eb'
    """
    # Markup was escaped when it was built.
    if type(value) is not str:
        return value
    return "\n".join(map(escape_control_characters, value.split("\n")))


def coded(text: str) -> Markup:
    """Return escaped text in which each part between backticks is a `<code>` element.

    >>> coded("run `a<b`")
    Markup('run <code>a&lt;b</code>')
    """
    text = str(shown(text))
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else part
        for index, part in enumerate(parts)
    )


def _long_date(day: date) -> str:
    return f"{wording.WEEKDAYS[day.weekday()]} {day.day} {day:%B %Y}"


def _runs(record: NightRecord) -> list[Run]:
    return [record.finished[job] for job in JOBS if job in record.finished]


def _charts(data: PageData) -> dict[str, Markup]:
    from jobs.report_pages import charts

    svgs = {"volumes": charts.nightly_volumes(data.volumes, data.record.day)}
    if any(data.score_distribution.tonight):
        svgs["scores"] = charts.score_distribution(data.score_distribution, data.threshold)
    if data.outcomes:
        svgs["precision"] = charts.precision_per_night(data.outcomes)
    return svgs


def alerts_csv(data: PageData) -> str:
    """Return all alerts of the night as CSV, one line each (RFC 4180).

    The attributes of the alerted transactions are the last columns, `attribute_<name>` each.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    attributes = sorted({name for a in data.alerts if a.event for name in a.event.attributes})
    writer.writerow((*CSV_COLUMNS, *(_cell(f"attribute_{name}") for name in attributes)))
    for alert in data.alerts:
        reasons = (*reasons_in_words(alert), "", "", "")[:3]
        writer.writerow(
            (
                data.record.day,
                alert.rank,
                _cell(alert.card_id),
                _cell(alert.event.merchant_id if alert.event else ""),
                _cell(alert.transaction_id),
                alert.event.event_time if alert.event else "",
                alert.amount,
                repr(alert.score),
                wording.rarity_text(alert.score),
                alert.num_transactions,
                *map(_cell, reasons),
                *(
                    _cell(alert.event.attributes.get(name, "") if alert.event else "")
                    for name in attributes
                ),
            )
        )
    return text.getvalue()


def _cell(value: str) -> str:
    """Return text that no spreadsheet evaluates and that holds no control characters.

    >>> _cell("=1+1"), _cell("a;=1+1"), _cell("card 7")
    ("'=1+1", "a;'=1+1", 'card 7')
    """
    return FORMULA_START.sub(r"\1'", escape_control_characters(value))
