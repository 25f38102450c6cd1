"""From a night's facts to the text of its page and of its list of alerts.

Everything is escaped: card and merchant ids, reasons and errors come from outside. A cell of the
list that a spreadsheet would take for a formula gets an apostrophe in front.
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
from jobs.report_pages.alert_outcomes import Detected, Metric
from jobs.report_pages.night_status import NightRecord, earlier_failures, gates, verdict
from jobs.report_pages.page_data import ALERTS_ON_PAGE, Alert, Refusal, Tails, Volume
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
# Where a cell begins: at the start of a field, and after what some spreadsheets split fields at.
# Some leave out blanks and quotes in front. Other white space and control signs stand as codes.
FORMULA_START = re.compile(r"(^|[;,|])(?=[ \"]*[=+\-@\uff1d\uff0b\uff0d\uff20])")


@dataclass(frozen=True)
class Facts:
    """All that the page of a night shows."""

    lake_uri: str
    record: NightRecord
    volumes: Sequence[Volume]
    refusals: Sequence[Refusal]
    alerts: Sequence[Alert]
    tails: Tails
    detected: Sequence[Detected]
    evaluation: Sequence[Metric]
    alert_budget: int

    @property
    def tonight(self) -> Volume:
        """What the night itself delivered."""
        return next(volume for volume in self.volumes if volume.day == self.record.day)

    @property
    def threshold(self) -> float | None:
        """Score that an alert needs at least, as the jobs of the night recorded it."""
        for job in ("alerts", "publish", "score"):
            value = self._figures(job).get("threshold")
            if value is not None:
                return float(value)
        return None

    @property
    def drift(self) -> Mapping[str, Any]:
        """Figures of the job `monitor`; empty when it has not run."""
        return self._figures("monitor")

    def _figures(self, job: str) -> Mapping[str, Any]:
        run = self.record.finished.get(job)
        return run.figures if run else {}


@dataclass(frozen=True)
class Drift:
    """One row of the table of drift."""

    name: str
    psi: float | None
    level: str


def drift_rows(figures: Mapping[str, Any]) -> list[Drift]:
    """Drift of scores first, then of features, the most shifted on top."""
    rows = [
        [
            Drift(name, entry.get("psi"), str(entry.get("level", "")))
            for name, entry in figures.get(group, {}).get("columns", {}).items()
        ]
        for group in ("scores", "features")
    ]
    return [row for group in rows for row in sorted(group, key=lambda d: -(d.psi or -1.0))]


def reasons_in_words(alert: Alert) -> list[str]:
    """Why the alert was raised, one sentence per reason."""
    return [wording.sentence(*reason) for reason in alert.reasons]


def render(facts: Facts) -> str:
    """The page, whole: one HTML file that needs no other."""
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
        tail=wording.tail,
        in_words=wording.label,
        count=lambda value: f"{value:,}",
        figure=lambda value: "-" if value is None else f"{value:.3f}",
        coded=coded,
        long_date=_long_date,
        moment=lambda text, day: text.removeprefix(f"{day} "),
    )
    return environment.get_template("report.html").render(
        facts=facts,
        record=facts.record,
        day=facts.record.day,
        verdict=verdict(facts.record),
        gates=gates(facts.record),
        runs=_runs(facts.record),
        judged=any(metric.is_of(facts.record.model_version) for metric in facts.evaluation),
        failures=earlier_failures(facts.record),
        alerts=facts.alerts[:ALERTS_ON_PAGE],
        reasons=reasons_in_words,
        drift=drift_rows(facts.drift),
        charts=_charts(facts),
        sentence_of_rule=sentence_of_rule,
    )


def shown(value: object) -> object:
    """A value for the page: signs that steer or turn text as their codes, lines as they are.

    >>> shown("a\\u202eb")
    'a\\\\u202eb'
    """
    # What is marked up was shown before it was.
    if type(value) is not str:
        return value
    return "\n".join(map(escape_control_characters, value.split("\n")))


def coded(text: str) -> Markup:
    """Text with what stands between backticks as code; all of it escaped.

    >>> coded("run `a<b`")
    Markup('run <code>a&lt;b</code>')
    """
    text = str(shown(text))
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part
        for place, part in enumerate(parts)
    )


def _long_date(day: date) -> str:
    return f"{wording.WEEKDAYS[day.weekday()]} {day.day} {day:%B %Y}"


def _runs(record: NightRecord) -> list[Run]:
    return [record.finished[job] for job in JOBS if job in record.finished]


def _charts(facts: Facts) -> dict[str, Markup]:
    from jobs.report_pages import charts

    drawn = {"volumes": charts.nightly_volumes(facts.volumes, facts.record.day)}
    if any(facts.tails.tonight):
        drawn["scores"] = charts.score_tails(facts.tails, facts.threshold)
    if facts.detected:
        drawn["precision"] = charts.precision_per_night(facts.detected)
    return drawn


def alerts_csv(facts: Facts) -> str:
    """All alerts of the night, one line each (RFC 4180)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    for alert in facts.alerts:
        reasons = (*reasons_in_words(alert), "", "", "")[:3]
        writer.writerow(
            (
                facts.record.day,
                alert.rank,
                _cell(alert.card_id),
                _cell(alert.event.merchant_id if alert.event else ""),
                _cell(alert.transaction_id),
                alert.event.event_time if alert.event else "",
                alert.amount,
                repr(alert.score),
                wording.tail(alert.score),
                alert.num_transactions,
                *map(_cell, reasons),
            )
        )
    return text.getvalue()


def _cell(value: str) -> str:
    """A text that no spreadsheet takes for a formula, and that steers no terminal.

    >>> _cell("=1+1"), _cell("a;=1+1"), _cell("card 7")
    ("'=1+1", "a;'=1+1", 'card 7')
    """
    return FORMULA_START.sub(r"\1'", escape_control_characters(value))
