"""The report page: its content for every kind of night, and the escaping of hostile text."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from every_function import EVERY_FUNCTION

from feature_defs.catalogue import FEATURES
from feature_defs.errors import InputMissing, NightHeld
from feature_defs.feature import Feature, Kind
from jobs.backfill import BackfillPlan
from jobs.lake.dates import Dates
from jobs.lake.runs import Run
from jobs.report_pages import page, wording
from jobs.report_pages.alert_outcomes import AlertOutcome, EvaluationMetric
from jobs.report_pages.night_status import NightRecord, gates, night_status
from jobs.report_pages.page_data import (
    NUM_BINS,
    Alert,
    Event,
    QuarantineReason,
    ScoreDistribution,
    Volume,
)

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

DAY = date(2018, 8, 8)
HOSTILE = '<script>alert("x")</script>\'"&'
FAILED = {
    "gate": "gate 1",
    "passed": False,
    "checks": [
        {
            "name": "quarantined_share",
            "sentence": "At most 20 % of the rows are refused.",
            "severity": "fail",
            "status": "failed",
            "observed": f"0.37 {HOSTILE}",
        }
    ],
}


def run_of(job: str, **changes: Any) -> Run:
    return Run(job, Dates(DAY, DAY), {}, **{"run_id": f"{job}-1", "status": "done", **changes})


def failed_run(job: str, error: str, **changes: Any) -> Run:
    return run_of(job, status="failed", error=error, **changes)


def night_of(*jobs: str, attempts: tuple[Run, ...] = ()) -> NightRecord:
    finished = {job: run_of(job) for job in jobs}
    return NightRecord(
        DAY, {"transactions": 4}, "3" if "score" in jobs else None, finished, attempts
    )


ALL_JOBS = ("ingest", "features", "score", "publish", "alerts")


def alert(rank: int) -> Alert:
    attributes = {"merchant_category": HOSTILE, "entry_mode": "=chip"}
    amount = Decimal("412.00")
    event = Event(f"t{rank}", "2018-08-08 03:12:00", HOSTILE, amount, 0.99996, attributes)
    earlier = replace(event, transaction_id=f"e{rank}", score=None)
    reasons = (*((name, 3.0, 1.0) for name in list(FEATURES)[:2]), (HOSTILE, None, 2.0))
    return Alert(
        rank=rank,
        card_id=HOSTILE if rank == 1 else f"=card{rank}",
        transaction_id=f"t{rank}",
        num_transactions=2,
        score=0.99996,
        amount=Decimal("412.000"),
        reasons=reasons,
        events=(event, *(earlier for _ in range(9))),
    )


def page_data_of(record: NightRecord, num_alerts: int = 0, **changes: Any) -> page.PageData:
    base = page.PageData(
        lake_uri=f"/lake/{HOSTILE}",
        record=record,
        volumes=[Volume(DAY - timedelta(days=n), 1000 + n, 3, 20, 5) for n in range(28, -1, -1)],
        quarantine_reasons=[QuarantineReason("unparsable_amount", 20, (HOSTILE,))],
        alerts=[alert(rank) for rank in range(1, num_alerts + 1)],
        score_distribution=ScoreDistribution(
            (100,) * NUM_BINS, (2800,) * NUM_BINS, {DAY: ("3",)}, False
        ),
        outcomes=[],
        evaluation=[],
        alert_budget=100,
    )
    return replace(base, **changes)


# -- the page --------------------------------------------------------------------------------------


def test_page_with_100_alerts_is_small_and_loads_nothing() -> None:
    html = page.render(page_data_of(night_of(*ALL_JOBS), num_alerts=100))
    assert len(html.encode()) < 1_500_000
    assert "http" not in html.replace('http-equiv="Content-Security-Policy"', "")
    assert "<script" not in html
    assert not re.search(r"<(img|link|iframe|object|embed|base)\b", html)
    assert not re.search(r"@import|url\((?!#)", html)
    assert re.findall(r'href="(?!#)([^"]+)"', html) == ["alerts.csv"]


def test_page_rendered_twice_is_identical() -> None:
    night = page_data_of(night_of(*ALL_JOBS), num_alerts=2)
    assert page.render(night) == page.render(night)


def test_page_with_hostile_text_escapes_it() -> None:
    failure = failed_run("ingest", f"GateFailed: {HOSTILE}", gates=[FAILED])
    for night in (
        page_data_of(night_of(*ALL_JOBS), num_alerts=2),
        page_data_of(night_of(attempts=(failure,))),
    ):
        html = page.render(night)
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_chart_ids_are_unique_on_the_page() -> None:
    html = page.render(page_data_of(night_of(*ALL_JOBS), 1, outcomes=[AlertOutcome(DAY, 5, 2)]))
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


def test_attributes_are_on_the_page_and_in_the_list() -> None:
    night = page_data_of(night_of(*ALL_JOBS), num_alerts=2)
    html = page.render(night)
    assert "merchant category" in html and "=chip" in html
    first, *_ = csv.DictReader(io.StringIO(page.alerts_csv(night), newline=""))
    assert first["attribute_entry_mode"] == "'=chip"


def test_csv_cells_that_look_like_formulas_are_escaped() -> None:
    text = page.alerts_csv(page_data_of(night_of(*ALL_JOBS), num_alerts=2))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert rows[0]["card_id"] == HOSTILE
    assert rows[1]["card_id"] == "'=card2"
    # Some spreadsheets split fields at semicolons and skip leading blanks and quotes.
    assert page._cell("x;=1+1") == "x;'=1+1" and page._cell(' "=1') == "' \"=1"
    assert rows[1]["amount"] == "412.000"
    assert rows[1]["rarity"] == "1 in 25,000"
    assert text.endswith("\r\n")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", '"=', "\uff1d"])
def test_csv_cell_with_any_formula_prefix_gets_an_apostrophe(start: str) -> None:
    dangerous = replace(alert(1), card_id=f"{start}1+1")
    text = page.alerts_csv(page_data_of(night_of(*ALL_JOBS), alerts=[dangerous]))
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["card_id"] == f"'{start}1+1"


@pytest.mark.parametrize(
    "sign", ["\t", "\r", "\n", "\0", "\x1b", "\xa0", "\u2028", "\u202e", "\ufeff"]
)
def test_control_and_bidirectional_characters_are_escaped(sign: str) -> None:
    dangerous = replace(alert(1), card_id=f"{sign}=1")
    night = page_data_of(night_of(*ALL_JOBS), alerts=[dangerous])
    code = sign.encode("unicode_escape").decode()
    (row,) = csv.DictReader(io.StringIO(page.alerts_csv(night), newline=""))
    assert row["card_id"] == f"{code}=1"
    html = page.render(night)
    assert sign == "\n" or f"{code}=1" in html
    assert sign.isspace() or sign not in html


def test_published_night_without_rows_has_a_page() -> None:
    nothing = page_data_of(
        night_of(*ALL_JOBS),
        volumes=[Volume(DAY)],
        quarantine_reasons=[],
        score_distribution=ScoreDistribution((0,) * NUM_BINS, (0,) * NUM_BINS, {}, False),
    )
    html = page.render(nothing)
    assert "No card reached the alert threshold this night" in html
    assert "No transaction of this night was scored" in html


def test_evaluation_is_shown_until_a_night_is_mature() -> None:
    metric = EvaluationMetric("version_3", DAY, DAY, "average_precision", 0.181, 0.16, 0.2)
    without = page.render(page_data_of(night_of(*ALL_JOBS), evaluation=[metric]))
    assert "The champion&#39;s evaluation on 2018-08-08 to 2018-08-08, not this night" in without
    assert "0.181" in without
    measured = [AlertOutcome(DAY - timedelta(days=8), 5, 2)]
    with_it = page.render(page_data_of(night_of(*ALL_JOBS), evaluation=[metric], outcomes=measured))
    assert "40 %" in with_it
    assert "not this night" not in with_it


# -- night status --------------------------------------------------------------------------------


def test_page_of_a_stopped_night_starts_with_the_failed_gate() -> None:
    failure = failed_run("ingest", "GateFailed: stopped", gates=[FAILED])
    html = page.render(page_data_of(night_of(attempts=(failure,))))
    banner = html.index("Nothing was published: stopped by gate 1")
    assert banner < html.index("At most 20 % of the rows are refused.") < html.index("At a glance")


def test_page_of_a_backfilled_night_shows_the_reason() -> None:
    dates = Dates(DAY, DAY + timedelta(days=3))
    plan = BackfillPlan(dates, f"re-delivery {HOSTILE}")
    night = night_of(*ALL_JOBS)
    html = page.render(page_data_of(replace(night, backfill=plan.to_json())))
    assert "Rerun by a backfill of 2018-08-08 to 2018-08-11." in html
    assert "Reason: re-delivery &lt;script&gt;" in html
    assert "Rerun by" not in page.render(page_data_of(night))


def test_night_status_of_each_kind_of_night() -> None:
    no_champion = failed_run("score", "InputMissing: no champion")
    crash = failed_run("features", "ValueError: broken")
    assert night_status(night_of(*ALL_JOBS)).kind == "published"
    assert night_status(night_of("ingest", "features", attempts=(no_champion,))).kind == "no model"
    assert night_status(night_of("ingest", "features")).kind == "no model"
    assert night_status(night_of("ingest", attempts=(crash,))).kind == "stopped"
    assert night_status(night_of("ingest")).kind == "unfinished"


def test_report_run_alone_does_not_begin_a_night() -> None:
    assert not night_of().begun
    assert not night_of(attempts=(run_of("report"),)).begun
    assert night_of(attempts=(failed_run("ingest", "GateFailed: x"),)).begun


def test_repaired_failure_is_listed_as_earlier_attempt() -> None:
    failure = failed_run("ingest", "GateFailed: x", gates=[FAILED])
    record = night_of(*ALL_JOBS, attempts=(failure,))
    assert record.failure is None
    html = page.render(page_data_of(record))
    assert "Earlier failed attempts" in html


def test_overridden_gate_is_shown_as_overridden() -> None:
    record = night_of(*ALL_JOBS)
    override = {"reason": f"bank holiday {HOSTILE}", "actor": "ada", "outcome": "overruled"}
    record.finished["ingest"].gates = [{**FAILED, "accepted": override}]
    (view,) = gates(record)
    assert view.status == "overridden"
    assert view.remark == f"Overridden by ada: bank holiday {HOSTILE}"
    status = night_status(record)
    assert status.title == "Published with a gate override"
    assert "gate 1: Overridden by ada: bank holiday" in status.text
    html = page.render(page_data_of(record))
    assert html.count("Overridden by ada: bank holiday") == 2
    assert HOSTILE not in html


@pytest.mark.parametrize(
    ("outcome", "passed", "status", "remark"),
    [
        ("not needed", True, "passed", "it was not needed"),
        ("refused", False, "failed", "schema checks cannot be overridden"),
    ],
)
def test_override_without_effect_is_explained(
    outcome: str, passed: bool, status: str, remark: str
) -> None:
    record = night_of(*ALL_JOBS)
    override = {"reason": "bank holiday", "actor": "ada", "outcome": outcome}
    record.finished["ingest"].gates = [{**FAILED, "passed": passed, "accepted": override}]
    (view,) = gates(record)
    assert view.status == status
    assert remark in view.remark
    assert night_status(record).title == "Published"


# -- wording -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*FEATURES, *EVERY_FUNCTION}))
def test_every_feature_has_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features = {**EVERY_FUNCTION, **FEATURES}
    monkeypatch.setattr(wording, "FEATURES", features)
    for observed, expected in ((3.0, 1.0), (None, 2.0), (0.4, None), (float("nan"), -1.0)):
        text = wording.sentence(name, observed, expected)
        assert text
        assert "nan" not in text.lower()
        assert "None" not in text
        may_be_negative = (Kind.AMOUNT, Kind.RATIO, Kind.NUMBER, Kind.CATEGORY)
        assert "-1" not in text or features[name].kind in may_be_negative
    assert wording.label(name)


def test_sentence_describes_the_function_of_a_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wording, "FEATURES", EVERY_FUNCTION)
    expected_sentences = {
        ("card_at_merchant_first_time_30d", 1.0, 0.0): (
            "the first transaction of the card at merchant over 30 days"
        ),
        ("card_merchant_id_distinct_8d", 5.0, 1.0): (
            "the card's number of different merchants over 8 days was 5, expected about 1"
        ),
        ("transaction_amount_over_card_amount_std_7d", 12.0, 1.0): (
            "the transaction amount was 12 times the card's spread of the amount over 7 days, "
            "expected about 1 times"
        ),
        ("card_count_1h", 12.0, 1.0): (
            "the card's number of transactions over 1 hour was 12, expected about 1"
        ),
        ("account_merchant_category_same_share_30d", 0.0, 0.5): (
            "the account's share of earlier transactions with this merchant category over 30 days "
            "was 0 %, expected 50 %"
        ),
        ("account_speed_since_last_30d", 900.0, -3.0): (
            "the account's speed since the previous transaction over 30 days was 900 km/h, "
            "expected about 0 km/h"
        ),
        ("card_share_large_7d", 0.5, 0.0): (
            "the card's share of transactions (large) over 7 days was 50 %, expected 0 %"
        ),
    }
    for (name, observed, expected), sentence in expected_sentences.items():
        assert wording.sentence(name, observed, expected) == sentence


def test_sentence_fits_the_kind_of_a_feature() -> None:
    expected_sentences = {
        ("transaction_amount", 412.0, 38.0): "paid 412.00, expected about 38.00",
        ("transaction_hour_of_day", 3.2, 14.0): "at 03:12, expected around 14:00",
        ("transaction_day_of_week", 6.0, 2.0): "on a Sunday, expected a Wednesday",
        ("card_seconds_since_last_30d", 240.0, 32400.0): (
            "4 min after the last transaction, expected 9 h"
        ),
        ("card_seconds_since_last_30d", None, 3600.0): (
            "no earlier transaction within 30 days, expected 1 h"
        ),
        ("merchant_fraud_rate_7d_delay_7d", 0.62, 0.0): (
            "the merchant's fraud rate over 7 days (delayed by 7 days) was 62 %, expected 0 %"
        ),
        ("card_count_1d", 9.0, 2.4): (
            "the card's number of transactions over 1 day was 9, expected about 2.4"
        ),
        ("card_amount_mean_7d", 210.0, 40.0): (
            "the card's mean amount over 7 days was 210.00, expected about 40.00"
        ),
        ("card_long_gone_3d", 3.25, 1.0): "card_long_gone_3d was 3.25, expected about 1",
    }
    for reason, sentence in expected_sentences.items():
        assert wording.sentence(*reason) == sentence


def test_reason_of_a_category_is_a_sentence_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "transaction_merchant_category"
    feature = Feature(name, Kind.CATEGORY, "What the merchant sells.")
    monkeypatch.setattr(wording, "FEATURES", {name: feature})
    expected_sentences = {
        ("travel", "groceries"): "merchant category travel, usually groceries",
        ("travel", None): "merchant category travel, usually one of the less frequent",
        (None, "groceries"): "unknown merchant category, usually groceries",
        ("travel", "travel"): "merchant category travel, as usual",
    }
    for texts, sentence in expected_sentences.items():
        assert wording.sentence(name, None, None, *texts) == sentence
    retired = wording.sentence("card_place", None, None, "abroad", "home")
    assert retired == "card_place was abroad, usually home"


def test_sentence_of_a_number_has_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    expected_sentences = {
        Kind.NUMBER: "the transaction x was -12.5, expected about 1,240",
        Kind.DISTANCE_KM: "the transaction x was -12.5 km, expected about 1,240 km",
        Kind.SPEED_KMH: "the transaction x was -12.5 km/h, expected about 1,240 km/h",
        Kind.AGE_YEARS: "the transaction x was -12.5 years, expected about 1,240 years",
    }
    for kind, sentence in expected_sentences.items():
        feature = Feature("transaction_x", kind, "For this test.")
        monkeypatch.setattr(wording, "FEATURES", {"transaction_x": feature})
        assert wording.sentence("transaction_x", -12.5, 1240.0) == sentence
        assert "is not known" in wording.sentence("transaction_x", None, float("nan"))


@pytest.mark.parametrize("score", [-1.0, 0.0, 0.5, 0.9999999999, 1.0])
def test_any_score_has_a_rarity_text(score: float) -> None:
    assert wording.rarity_text(score)


# -- from the lake ---------------------------------------------------------------------------------


@pytest.mark.spark
def test_report_of_a_finished_night_ends_it(filled_lake: Lake) -> None:
    from jobs import report
    from jobs.lake.nights import lease_nights

    with lease_nights(filled_lake, Dates(DAY, DAY)) as night:
        report.run(night)
        # `monitor` has not run yet, so the report does not end the night.
        assert "report" not in night.finished
        with night.job("monitor"):
            pass
        path = report.run(night)
        assert "report" in night.finished
    html = Path(path).read_text(encoding="utf-8")
    assert path.endswith("/_reports/2018-08-08/report.html")
    assert "Published" in html
    assert "1 in 100,000" in html
    assert "The amount is not a valid number as the mapping writes numbers." in html
    assert "<script" not in html
    # Labels arrive after seven days, so the first nights are mature.
    assert "whose labels were mature by" in html
    rows = list(csv.DictReader(Path(path).with_name("alerts.csv").open(encoding="utf-8")))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert all(row["merchant_id"].startswith("'=m") for row in rows)
    _check_events(filled_lake)


def _check_events(lake: Lake) -> None:
    """Check that recent events start with the alerted one and are sorted, newest first."""
    from jobs.report_pages import page_data

    for found in page_data.alerts(page_data.ReportSource(lake, DAY, {})):
        assert found.event is not None
        assert (found.event.amount, found.event.score) == (found.amount, found.score)
        times = [event.event_time for event in found.events]
        assert times == sorted(times, reverse=True)
        assert len(times) <= page_data.EVENTS_PER_ALERT


@pytest.mark.spark
def test_night_in_a_backfill_stays_open_and_keeps_its_alerts(filled_lake: Lake) -> None:
    from jobs import report
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS

    plan = BackfillPlan(Dates(DAY, DAY), "a new delivery")
    with lease_nights(filled_lake, Dates(DAY, DAY)) as night:
        night.restart_for_backfill((), {}, plan.to_json())
    path = Path(report.write(filled_lake, DAY))
    assert "Not published again yet" in path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(path.with_name("alerts.csv").open(encoding="utf-8")))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    states = filled_lake.read(NIGHTS).where(f"business_date = DATE'{DAY}'").select("state")
    assert [row["state"] for row in states.collect()] == ["open"]


@pytest.mark.spark
def test_report_of_a_leased_night_is_refused(filled_lake: Lake) -> None:
    from jobs import report
    from jobs.lake.nights import lease_nights

    with lease_nights(filled_lake, Dates(DAY, DAY)), pytest.raises(NightHeld, match="Another run"):
        report.write(filled_lake, DAY)


@pytest.mark.spark
def test_smaller_budget_keeps_published_alerts(filled_lake: Lake) -> None:
    from jobs.report_pages import page_data

    settings = filled_lake.settings.model_copy(update={"alert_budget": 2})
    today = replace(filled_lake, settings=settings)
    assert len(page_data.alerts(page_data.ReportSource(today, DAY, {}))) == 5


@pytest.mark.spark
def test_stopped_night_gets_a_page_and_unknown_night_an_error(lake: Lake) -> None:
    from feature_defs.errors import GateFailed
    from jobs import report
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS

    with (
        pytest.raises(GateFailed),
        lease_nights(lake, Dates(DAY, DAY)) as night,
        night.job("ingest") as record,
    ):
        record.gates.append(FAILED)
        record.figures = {
            "by_night": {str(DAY): [100, 63, 37]},
            "quarantined_by_reason": {"unparsable_amount": 37},
        }
        raise GateFailed("gate 1 stopped it.", expected="a pass.", remedy="mend it.")
    html = Path(report.write_failed(lake, DAY)).read_text(encoding="utf-8")
    assert "Nothing was published: stopped by gate 1" in html
    assert "The amount is not a valid number as the mapping writes numbers." in html
    assert "of 100 rows read" in html
    assert lake.read(NIGHTS).collect()[0]["state"] == "open"
    with pytest.raises(InputMissing, match="never begun"):
        report.write(lake, DAY + timedelta(days=1))


@pytest.mark.spark
def test_night_without_a_champion_stays_open(lake: Lake) -> None:
    from jobs import report
    from jobs.lake.nights import lease_nights

    with lease_nights(lake, Dates(DAY, DAY)) as night:
        with night.job("ingest"):
            pass
        with night.job("features"):
            pass
        html = Path(report.run(night)).read_text(encoding="utf-8")
        assert "report" not in night.finished
    assert "no model was in service" in html
