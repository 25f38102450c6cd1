"""The night's page: what it says of every kind of night, and that nothing hostile gets through."""

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
from feature_defs.feature import Kind
from jobs.backfill import BackfillPlan
from jobs.lake.dates import Dates
from jobs.lake.runs import Run
from jobs.report_pages import page, wording
from jobs.report_pages.alert_outcomes import Detected, Metric
from jobs.report_pages.night_status import NightRecord, gates, verdict
from jobs.report_pages.page_data import NUM_BINS, Alert, Event, Refusal, Tails, Volume

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
    event = Event(f"t{rank}", "2018-08-08 03:12:00", HOSTILE, Decimal("412.00"), 0.99996)
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


def facts(record: NightRecord, num_alerts: int = 0, **changes: Any) -> page.Facts:
    base = page.Facts(
        lake_uri=f"/lake/{HOSTILE}",
        record=record,
        volumes=[Volume(DAY - timedelta(days=n), 1000 + n, 3, 20, 5) for n in range(28, -1, -1)],
        refusals=[Refusal("unparsable_amount", 20, (HOSTILE,))],
        alerts=[alert(rank) for rank in range(1, num_alerts + 1)],
        tails=Tails((100,) * NUM_BINS, (2800,) * NUM_BINS, {DAY: ("3",)}, False),
        detected=[],
        evaluation=[],
        alert_budget=100,
    )
    return replace(base, **changes)


# -- the page --------------------------------------------------------------------------------------


def test_a_full_page_is_small_and_asks_nothing_of_any_host() -> None:
    html = page.render(facts(night_of(*ALL_JOBS), num_alerts=100))
    assert len(html.encode()) < 1_500_000
    assert "http" not in html.replace('http-equiv="Content-Security-Policy"', "")
    assert "<script" not in html
    assert not re.search(r"<(img|link|iframe|object|embed|base)\b", html)
    assert not re.search(r"@import|url\((?!#)", html)
    assert re.findall(r'href="(?!#)([^"]+)"', html) == ["alerts.csv"]


def test_the_same_night_gives_the_same_page() -> None:
    night = facts(night_of(*ALL_JOBS), num_alerts=2)
    assert page.render(night) == page.render(night)


def test_hostile_text_stays_text() -> None:
    failure = failed_run("ingest", f"GateFailed: {HOSTILE}", gates=[FAILED])
    for night in (
        facts(night_of(*ALL_JOBS), num_alerts=2),
        facts(night_of(attempts=(failure,))),
    ):
        html = page.render(night)
        assert "<script" not in html
        assert "&lt;script&gt;" in html


def test_ids_of_the_charts_do_not_meet() -> None:
    html = page.render(facts(night_of(*ALL_JOBS), 1, detected=[Detected(DAY, 5, 2)]))
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


def test_cells_of_the_list_are_no_formulas() -> None:
    text = page.alerts_csv(facts(night_of(*ALL_JOBS), num_alerts=2))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert rows[0]["card_id"] == HOSTILE
    assert rows[1]["card_id"] == "'=card2"
    # Some spreadsheets split fields at semicolons, and at quotes that do not begin a field.
    assert page._cell("x;=1+1") == "x;'=1+1" and page._cell(' "=1') == "' \"=1"
    assert rows[1]["amount"] == "412.000"
    assert rows[1]["rarity"] == "1 in 25,000"
    assert text.endswith("\r\n")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", " =", '"=', "\uff1d"])
def test_every_start_of_a_formula_is_disarmed(start: str) -> None:
    dangerous = replace(alert(1), card_id=f"{start}1+1")
    text = page.alerts_csv(facts(night_of(*ALL_JOBS), alerts=[dangerous]))
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["card_id"] == f"'{start}1+1"


@pytest.mark.parametrize(
    "sign", ["\t", "\r", "\n", "\0", "\x1b", "\xa0", "\u2028", "\u202e", "\ufeff"]
)
def test_signs_that_steer_or_turn_text_are_shown_as_codes(sign: str) -> None:
    dangerous = replace(alert(1), card_id=f"{sign}=1")
    night = facts(night_of(*ALL_JOBS), alerts=[dangerous])
    code = sign.encode("unicode_escape").decode()
    (row,) = csv.DictReader(io.StringIO(page.alerts_csv(night), newline=""))
    assert row["card_id"] == f"{code}=1"
    html = page.render(night)
    assert sign == "\n" or f"{code}=1" in html
    assert sign.isspace() or sign not in html


def test_an_empty_published_night_has_a_page() -> None:
    nothing = facts(
        night_of(*ALL_JOBS),
        volumes=[Volume(DAY)],
        refusals=[],
        tails=Tails((0,) * NUM_BINS, (0,) * NUM_BINS, {}, False),
    )
    html = page.render(nothing)
    assert "score passed the threshold this night" in html
    assert "No transaction of this night was scored" in html


def test_detection_is_measured_on_mature_nights_only() -> None:
    metric = Metric("version_3", DAY, DAY, "average_precision", 0.181, 0.16, 0.2)
    without = page.render(facts(night_of(*ALL_JOBS), evaluation=[metric]))
    assert "The champion&#39;s evaluation on 2018-08-08 to 2018-08-08, not this night" in without
    assert "0.181" in without
    measured = [Detected(DAY - timedelta(days=8), 5, 2)]
    with_it = page.render(facts(night_of(*ALL_JOBS), evaluation=[metric], detected=measured))
    assert "40 %" in with_it
    assert "not this night" not in with_it


# -- the verdict -----------------------------------------------------------------------------------


def test_a_stopped_night_says_first_that_nothing_was_published_and_why() -> None:
    failure = failed_run("ingest", "GateFailed: stopped", gates=[FAILED])
    html = page.render(facts(night_of(attempts=(failure,))))
    told = html.index("Nothing was published: stopped by gate 1")
    assert told < html.index("At most 20 % of the rows are refused.") < html.index("At a glance")


def test_a_night_run_again_says_so_and_why() -> None:
    dates = Dates(DAY, DAY + timedelta(days=3))
    plan = BackfillPlan(dates, f"re-delivery {HOSTILE}")
    night = night_of(*ALL_JOBS)
    html = page.render(facts(replace(night, backfill=plan.to_json())))
    assert "Run again by a backfill of 2018-08-08 to 2018-08-11." in html
    assert "Reason given: re-delivery &lt;script&gt;" in html
    assert "Run again" not in page.render(facts(night))


def test_verdicts() -> None:
    no_champion = failed_run("score", "InputMissing: no champion")
    crash = failed_run("features", "ValueError: broken")
    assert verdict(night_of(*ALL_JOBS)).kind == "published"
    assert verdict(night_of("ingest", "features", attempts=(no_champion,))).kind == "no model"
    assert verdict(night_of("ingest", "features")).kind == "no model"
    assert verdict(night_of("ingest", attempts=(crash,))).kind == "stopped"
    assert verdict(night_of("ingest")).kind == "unfinished"


def test_a_page_alone_begins_no_night() -> None:
    assert not night_of().begun
    assert not night_of(attempts=(run_of("report"),)).begun
    assert night_of(attempts=(failed_run("ingest", "GateFailed: x"),)).begun


def test_a_failure_that_was_made_good_is_history() -> None:
    failure = failed_run("ingest", "GateFailed: x", gates=[FAILED])
    record = night_of(*ALL_JOBS, attempts=(failure,))
    assert record.failure is None
    html = page.render(facts(record))
    assert "Attempts that failed before" in html


def test_an_overruled_gate_is_neither_passed_nor_failed() -> None:
    record = night_of(*ALL_JOBS)
    wish = {"reason": f"bank holiday {HOSTILE}", "actor": "ada", "outcome": "overruled"}
    record.finished["ingest"].gates = [{**FAILED, "accepted": wish}]
    (view,) = gates(record)
    assert view.status == "overruled"
    assert view.remark == f"Overruled by ada: bank holiday {HOSTILE}"
    told = verdict(record)
    assert told.title == "Published, though a gate said no"
    assert "gate 1: Overruled by ada: bank holiday" in told.text
    html = page.render(facts(record))
    assert html.count("Overruled by ada: bank holiday") == 2
    assert HOSTILE not in html


@pytest.mark.parametrize(
    ("outcome", "passed", "status", "words"),
    [
        ("not needed", True, "passed", "which was not needed"),
        ("refused", False, "failed", "nobody overrules conservation or schema"),
    ],
)
def test_a_wish_that_changed_nothing_is_told(
    outcome: str, passed: bool, status: str, words: str
) -> None:
    record = night_of(*ALL_JOBS)
    wish = {"reason": "bank holiday", "actor": "ada", "outcome": outcome}
    record.finished["ingest"].gates = [{**FAILED, "passed": passed, "accepted": wish}]
    (view,) = gates(record)
    assert view.status == status
    assert words in view.remark
    assert verdict(record).title == "Published"


# -- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*FEATURES, *EVERY_FUNCTION}))
def test_every_feature_has_words(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features = {**EVERY_FUNCTION, **FEATURES}
    monkeypatch.setattr(wording, "FEATURES", features)
    for observed, expected in ((3.0, 1.0), (None, 2.0), (0.4, None), (float("nan"), -1.0)):
        text = wording.sentence(name, observed, expected)
        assert text
        assert "nan" not in text.lower()
        assert "None" not in text
        assert "-1" not in text or features[name].kind in (Kind.AMOUNT, Kind.RATIO)
    assert wording.label(name)


def test_words_say_what_a_function_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wording, "FEATURES", EVERY_FUNCTION)
    said = {
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
        ("card_share_large_7d", 0.5, 0.0): (
            "the card's share of transactions (large) over 7 days was 50 %, expected 0 %"
        ),
    }
    for (name, observed, expected), sentence in said.items():
        assert wording.sentence(name, observed, expected) == sentence


def test_words_by_kind() -> None:
    said = {
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
    for reason, sentence in said.items():
        assert wording.sentence(*reason) == sentence


@pytest.mark.parametrize("score", [-1.0, 0.0, 0.5, 0.9999999999, 1.0])
def test_any_score_has_a_rarity(score: float) -> None:
    assert wording.tail(score)


# -- from the lake ---------------------------------------------------------------------------------


@pytest.mark.spark
def test_a_finished_night(filled_lake: Lake) -> None:
    from jobs import report
    from jobs.lake.nights import lease_nights

    with lease_nights(filled_lake, Dates(DAY, DAY)) as night:
        report.run(night)
        # Something before it is left to do.
        assert "report" not in night.finished
        with night.job("monitor"):
            pass
        place = report.run(night)
        assert "report" in night.finished
    html = Path(place).read_text(encoding="utf-8")
    assert place.endswith("/_reports/2018-08-08/report.html")
    assert "Published" in html
    assert "1 in 100,000" in html
    assert "The amount is no number." in html
    assert "<script" not in html
    # Labels come after seven days, so the first nights have matured.
    assert "whose labels had matured" in html
    rows = list(csv.DictReader(Path(place).with_name("alerts.csv").open(encoding="utf-8")))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert all(row["merchant_id"].startswith("'=m") for row in rows)
    _check_events(filled_lake)


def _check_events(lake: Lake) -> None:
    """Recent events end with the alerted one, newest first, with their scores."""
    from jobs.report_pages import page_data

    for found in page_data.alerts(page_data.Place(lake, DAY, {})):
        assert found.event is not None
        assert (found.event.amount, found.event.score) == (found.amount, found.score)
        times = [event.event_time for event in found.events]
        assert times == sorted(times, reverse=True)
        assert len(times) <= page_data.EVENTS_PER_ALERT


@pytest.mark.spark
def test_a_night_that_is_being_run_again_stays_open_and_keeps_its_alerts(filled_lake: Lake) -> None:
    from jobs import report
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS

    why = BackfillPlan(Dates(DAY, DAY), "a new delivery")
    with lease_nights(filled_lake, Dates(DAY, DAY)) as night:
        night.restart_for_backfill((), {}, why.to_json())
    place = Path(report.write(filled_lake, DAY))
    assert "Not published again yet" in place.read_text(encoding="utf-8")
    rows = list(csv.DictReader(place.with_name("alerts.csv").open(encoding="utf-8")))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    states = filled_lake.read(NIGHTS).where(f"business_date = DATE'{DAY}'").select("state")
    assert [row["state"] for row in states.collect()] == ["open"]


@pytest.mark.spark
def test_a_page_waits_for_the_run_that_works_on_its_night(filled_lake: Lake) -> None:
    from jobs import report
    from jobs.lake.nights import lease_nights

    with lease_nights(filled_lake, Dates(DAY, DAY)), pytest.raises(NightHeld, match="Another run"):
        report.write(filled_lake, DAY)


@pytest.mark.spark
def test_a_smaller_budget_cuts_no_alerts_that_were_shown(filled_lake: Lake) -> None:
    from jobs.report_pages import page_data

    settings = filled_lake.settings.model_copy(update={"alert_budget": 2})
    today = replace(filled_lake, settings=settings)
    assert len(page_data.alerts(page_data.Place(today, DAY, {}))) == 5


@pytest.mark.spark
def test_a_stopped_night_and_one_never_begun(lake: Lake) -> None:
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
    assert "The amount is no number." in html
    assert "of 100 rows read" in html
    assert lake.read(NIGHTS).collect()[0]["state"] == "open"
    with pytest.raises(InputMissing, match="never begun"):
        report.write(lake, DAY + timedelta(days=1))


@pytest.mark.spark
def test_a_night_without_a_champion_stays_open(lake: Lake) -> None:
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
