"""The table of gates: a seeded defect for every expectation, and the expectation seen failing.

A defect of a delivery or of staged rows spoils a night of its own, so that Spark counts and the
gate judges all of them at once. `pytest -v` prints the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from feature_defs.catalogue import FEATURES
from feature_defs.feature import Feature, Function
from jobs.lake.dates import Dates
from jobs.lake.tables import FEATURES_TABLE, LABELS, SCORES, TRANSACTIONS, Table
from jobs.quality import row_counts
from jobs.quality.delivery_counts import NightCounts, Staged, count_nights
from jobs.quality.gate import Check, GateResult
from jobs.quality.rows.parsing import MAX_AMOUNT
from jobs.quality.staged_rows import RowsToPublish, StagedSuite
from jobs.quality.suites import features, labels, model, monitor, scores, transactions
from jobs.quality.suites.catalogue import all_expectations

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FIRST = date(2024, 3, 1)
NUM_ROWS = 10
HISTORY = {FIRST - timedelta(days=1 + back): NUM_ROWS for back in range(9)}
NAN, INFINITE = float("nan"), float("inf")
Night = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Defect:
    """What is wrong, the expectation that must catch it, and those that may notice it too."""

    what: str
    caught_by: str
    seed: Callable[[Any], object]
    severity: str = "fail"
    also: tuple[str, ...] = ()


def put(rows: str, column: str, value: Any) -> Callable[[Night], object]:
    """Spoil one value of a night's first row."""
    return lambda night: night[rows][0].update({column: value})


def tell(fact: str, more: int) -> Callable[[Night], object]:
    """Spoil a count of a night."""
    return lambda night: night.update({fact: night[fact] + more})


def again(rows: str) -> Callable[[Night], object]:
    """A copy of the first row in place of the last."""
    return lambda night: night[rows].__setitem__(-1, dict(night[rows][0]))


# -- gate 1 ----------------------------------------------------------------------------------------


def delivered(day: date) -> Night:
    """A night in which all is well: ten rows read and accepted, two labels."""
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    rows = [
        {
            "transaction_id": f"{day}-{nth}",
            "event_time": noon,
            "business_date": day,
            "ingest_time": noon,
            "card_id": f"c{nth}",
            "merchant_id": "m",
            "amount": Decimal("1.250"),
            "accepted": True,
            "reasons": [],
            "label_reasons": [],
            "raw": None,
        }
        for nth in range(NUM_ROWS)
    ]
    known = [
        {
            "transaction_id": f"{day}-{nth}",
            "is_fraud": False,
            "label_time": noon,
            "source": "bank",
            "ingest_time": noon,
            "business_date": day,
            "accepted": True,
            "dropped": False,
            "reasons": [],
        }
        for nth in range(2)
    ]
    return {"rows": rows, "labels": known, "rows_read": NUM_ROWS, "labels_read": 2}


def refuse(num_rows: int, *reasons: str, raw: str = "{}") -> Callable[[Night], object]:
    def seed(night: Night) -> None:
        for row in night["rows"][:num_rows]:
            row.update(accepted=False, reasons=list(reasons), raw=raw)

    return seed


def grow(times: int) -> Callable[[Night], object]:
    def seed(night: Night) -> None:
        night["rows"] = [
            {**row, "transaction_id": f"{row['transaction_id']}/{copy}"}
            for row in night["rows"]
            for copy in range(times)
        ]
        night["rows_read"] *= times

    return seed


def nothing(night: Night) -> None:
    night.update(rows=[], labels=[], rows_read=0, labels_read=0)


def astray(night: Night) -> None:
    night["rows"][0]["business_date"] = FIRST - timedelta(days=400)
    night["rows_read"] -= 1


DELIVERY = [
    Defect("a row is read and gone", "conservation", tell("rows_read", 1)),
    Defect("a row is there twice", "conservation", tell("rows_read", -1)),
    Defect("a label is read and gone", "label_conservation", tell("labels_read", 1)),
    Defect(
        "a quote is not closed",
        "no_swallowed_rows",
        refuse(1, "record_of_many_lines", raw='{"id": "1\\n2,3"}'),
    ),
    Defect("nothing was delivered", "rows_read", nothing),
    Defect("three of ten rows are refused", "quarantined_share", refuse(3, "missing_amount")),
    Defect("an id is accepted twice", "keys_unique", again("rows")),
    *(
        Defect(f"{name} is null", f"{name}_given", put("rows", name, None), also=also)
        for name, also in (
            ("transaction_id", ()),
            ("event_time", ()),
            ("business_date", ("conservation", "rows_read")),
            ("ingest_time", ()),
            ("card_id", ()),
            ("merchant_id", ()),
            ("amount", ()),
        )
    ),
    Defect(
        "an amount is too low",
        "amount_at_least",
        put("rows", "amount", Decimal(-MAX_AMOUNT - 1)),
    ),
    Defect(
        "an amount is too high", "amount_at_most", put("rows", "amount", Decimal(MAX_AMOUNT + 1))
    ),
    Defect("a row is of another night", "dates_in_range", astray, also=("rows_read",)),
    Defect("three times the rows", "volume", grow(3), "warn"),
    Defect("six times the rows", "volume_plausible", grow(6), also=("volume",)),
    Defect("a label is accepted twice", "label_keys_unique", again("labels")),
    *(
        Defect(
            f"a label's {name} is null", f"label_{name}_given", put("labels", name, None), also=also
        )
        for name, also in (
            ("transaction_id", ()),
            ("is_fraud", ()),
            ("label_time", ()),
            ("source", ()),
            ("ingest_time", ()),
            ("business_date", ("label_conservation", "rows_read")),
        )
    ),
]


def frame(spark: SparkSession, rows: Sequence[Row], types: dict[str, str]) -> DataFrame:
    """Rows with nulls wherever a defect put one."""
    ddl = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    values = [tuple(row.get(name) for name in types) for row in rows]
    return spark.createDataFrame(values, ddl).coalesce(1)


def types_of(table: Table) -> dict[str, str]:
    return {column.name: column.type for column in table.columns}


def judge_deliveries(spark: SparkSession, nights: dict[date, Night]) -> GateResult:
    verdicts = {"accepted": "boolean", "reasons": "array<string>"}
    judged = {
        **types_of(TRANSACTIONS),
        **verdicts,
        "raw": "string",
        "is_fraud": "boolean",
        "label_reasons": "array<string>",
    }
    rows = frame(spark, [row for night in nights.values() for row in night["rows"]], judged)
    told = frame(
        spark,
        [row for night in nights.values() for row in night["labels"]],
        {**types_of(LABELS), **verdicts, "dropped": "boolean"},
    )
    read = {day: night["rows_read"] for day, night in nights.items()}
    labels_read = {day: night["labels_read"] for day, night in nights.items()}
    dates = Dates(min(nights), max(nights))
    facts = count_nights(dates, Staged(rows, told, read, labels_read))
    counted = [
        transactions.volume(facts, HISTORY),
        *transactions.counted(rows.where("accepted")),
        *labels.counted(told.where("accepted")),
    ]
    return transactions.judge(dates, facts, counted, transactions.expectations())


# -- gates 2 and 4 ---------------------------------------------------------------------------------


def staged(table: Table, day: date) -> Night:
    """A night in which all is well: ten accepted transactions with one sane row each."""
    keys = [
        {key: row[key] for key in row if key != "ingest_time"} for row in delivered(day)["rows"]
    ]
    own = (
        {name: 1 if feature.type == "bigint" else 0.5 for name, feature in FEATURES.items()}
        if table is FEATURES_TABLE
        else {
            "reconstruction_error": 1.0,
            "ranking_value": 1.0,
            "score": 0.5,
            "reasons": [],
            "num_context_events": 0,
            "in_sample": False,
            "model_version": "3",
            "run_id": "score-1",
            "scored_at": keys[0]["event_time"],
        }
    )
    return {"accepted": keys, "staged": [{**key, **own} for key in keys], "cards": NUM_ROWS}


KEYS = [
    Defect("a row was not built", "every_transaction_has_one", lambda night: night["staged"].pop()),
    Defect(
        "a row of nobody was built",
        "every_row_is_accepted",
        lambda night: night["accepted"].pop(),
    ),
    Defect(
        "a row was built twice",
        "keys_unique",
        lambda night: night["staged"].append(dict(night["staged"][0])),
    ),
]
# A row whose key is spoilt is missing under its own.
BY_KEY = ("every_transaction_has_one", "every_row_is_accepted")


def nulls(table: Table) -> list[Defect]:
    return [
        Defect(
            f"{column.name} is null",
            f"{column.name}_given",
            put("staged", column.name, None),
            also=BY_KEY if column.name in ("transaction_id", "business_date") else (),
        )
        for column in table.columns
        if not column.nullable
    ]


def may_be_null(feature: Feature) -> bool:
    """Where there is nothing to divide by, or no event (or no second one) to look at."""
    if feature.function in (Function.RATIO, Function.STD, Function.SECONDS_SINCE_LAST):
        return True
    if feature.window is None or feature.empty is not None or feature.type == "bigint":
        return False
    # The window of a transaction without a delay holds at least itself.
    share = feature.function is Function.SHARE
    return feature.window.delay_days > 0 or (feature.where is not None and not share)


def feature_defects() -> list[Defect]:
    """From the catalogue alone, so that a new feature has its defects; ranges are by kind."""
    found = [*KEYS, *nulls(FEATURES_TABLE)]
    for name, feature in FEATURES.items():
        far = -10 if feature.type == "bigint" else -1e16
        found.append(Defect(f"{name} is far too low", f"{name}_at_least", put("staged", name, far)))
        if feature.type != "bigint":
            at_most = f"{name}_at_most"
            found.append(Defect(f"{name} is no number", at_most, put("staged", name, NAN)))
            found.append(Defect(f"{name} is too high", at_most, put("staged", name, 2e15)))
        if not may_be_null(feature):
            found.append(Defect(f"{name} is null", f"{name}_there", put("staged", name, None)))
    return found


SCORE = [
    *KEYS,
    *nulls(SCORES),
    Defect("two models scored the night", "one_model", put("staged", "model_version", "4")),
    Defect("a model that is none", "one_model", put("staged", "model_version", "champion")),
    Defect("a score is negative", "score_at_least", put("staged", "score", -0.1)),
    Defect("a score is above 1", "score_at_most", put("staged", "score", 1.1)),
    Defect("a score is no number", "score_at_most", put("staged", "score", NAN)),
    *(
        Defect(f"{name} is {value}", f"{name}_{form}", put("staged", name, value))
        for name in ("reconstruction_error", "ranking_value")
        for form, value in (("at_least", -INFINITE), ("at_most", INFINITE))
    ),
    Defect(
        "a context has fewer than no events",
        "num_context_events_at_least",
        put("staged", "num_context_events", -1),
    ),
    Defect("six times the alerts", "alert_volume", lambda night: night.update(cards=60)),
]


def judge_staged(spark: SparkSession, suite: StagedSuite, nights: dict[date, Night]) -> GateResult:
    types = {"business_date": "date", "transaction_id": "string"}
    accepted = frame(spark, [row for n in nights.values() for row in n["accepted"]], types)
    types = types_of(suite.table)
    built = frame(spark, [row for night in nights.values() for row in night["staged"]], types)
    keys = row_counts.AcceptedKeys(accepted, version=0)
    rows = RowsToPublish(keys, built, dict(built.dtypes), Dates(min(nights), max(nights)))
    tonight = {day: night["cards"] for day, night in nights.items()}
    further = [scores.alert_volume(tonight, HISTORY)] if suite is scores.SUITE else []
    return suite.judge(rows, lambda: further)


# -- columns, gate 3, monitor ----------------------------------------------------------------------


COLUMNS = [
    Defect("a column has another type", "schema", lambda types: types.update(amount="double")),
    Defect("a column is missing", "schema", lambda types: types.pop("card_id")),
    Defect("a column is new", "schema", lambda types: types.update(stranger="string")),
]


def figures_of_two() -> dict[str, Any]:
    better = {"num_transactions": 100, "average_precision": 0.3, "cp_at_k": 0.2}
    worse = {"num_transactions": 100, "average_precision": 0.3, "cp_at_k": 0.1}
    return {"ours": better, "theirs": worse, "as_of": FIRST, "judged_from": FIRST}


MODEL = [
    Defect("other rows", "same_rows", lambda f: f["theirs"].update(num_transactions=99)),
    Defect("nobody counted", "same_rows", lambda f: f["ours"].pop("num_transactions")),
    Defect("seen nights", "out_of_sample", lambda f: f.update(as_of=FIRST + timedelta(days=1))),
    *(
        Defect(
            f"{name} is {value}",
            f"{name}_at_least_incumbent",
            lambda f, n=name, v=value: f["ours"].update({n: v}),
        )
        for name in ("average_precision", "cp_at_k")
        for value in (0.01, NAN, None)
    ),
]


def judge_model(figures: dict[str, Any]) -> GateResult:
    facts = model.facts(figures, "ours", "theirs")
    return model.judge(facts | model.sample_facts(figures["as_of"], figures["judged_from"]))


def figures_of_monitor() -> dict[str, Any]:
    steady = {"status": "measured", "why": "", "columns": {"a": {"psi": 0.02, "level": "steady"}}}
    level = {"above": 0.9, "expected_share": 0.1, "observed_share": 0.1, "num_transactions": 100}
    return {
        "features": steady,
        "scores": {**steady, "columns": {"score": {"psi": 0.01, "level": "steady"}}},
        "calibration": {"status": "measured", "why": "", "num_scores": 1000, "levels": [level]},
        "late": {"num_rows": 0, "by_event_date": {}},
        "alerts": {"status": "measured", "why": "", "num_alerts": 10, "mean_before": 9.0},
    }


def shift(group: str) -> Callable[[Any], object]:
    return lambda figures: figures[group]["columns"].update(b={"psi": 0.4, "level": "shifted"})


MONITOR = [
    Defect("a feature has shifted", "feature_drift", shift("features"), "warn"),
    Defect("the scores have shifted", "score_drift", shift("scores"), "warn"),
    Defect(
        "three times as many high scores",
        "calibration",
        lambda f: f["calibration"]["levels"][0].update(num_transactions=300),
        "warn",
    ),
    Defect("no alerts", "alert_volume", lambda f: f["alerts"].update(num_alerts=0), "warn"),
    Defect("many alerts", "alert_volume", lambda f: f["alerts"].update(num_alerts=30), "warn"),
    Defect("rows came late", "late_rows", lambda f: f["late"].update(num_rows=3), "warn"),
]

# By gate: its defects, a good night, and the judge of many nights.
NIGHTLY: dict[str, tuple[list[Defect], Callable[[date], Night], Callable[..., GateResult]]] = {
    transactions.GATE: (DELIVERY, delivered, judge_deliveries),
    features.SUITE.gate: (
        feature_defects(),
        lambda day: staged(FEATURES_TABLE, day),
        lambda spark, nights: judge_staged(spark, features.SUITE, nights),
    ),
    scores.SUITE.gate: (
        SCORE,
        lambda day: staged(SCORES, day),
        lambda spark, nights: judge_staged(spark, scores.SUITE, nights),
    ),
}
SINGLE: dict[str, tuple[list[Defect], Callable[[], Any], Callable[[Any], GateResult]]] = {
    model.GATE: (MODEL, figures_of_two, judge_model),
    monitor.GATE: (MONITOR, figures_of_monitor, monitor.judge),
}
STRAY = {"None", str(FIRST - timedelta(days=400))}


@dataclass(frozen=True)
class Spoilt:
    """A gate's verdict over one night per defect, and a last one in which all is well."""

    day_of: dict[str, date]
    checks: dict[str, Check]

    def named_by(self, check: str) -> set[str]:
        """The nights that a failing check names."""
        if self.checks[check].status != "failed":
            return set()
        return set(re.findall(r"(?:^|; )(\d{4}-\d\d-\d\d|None): ", self.checks[check].observed))


@pytest.fixture(scope="module")
def spoilt(spark: SparkSession) -> Callable[[str], Spoilt]:
    @cache
    def judge_all(gate: str) -> Spoilt:
        defects, sane, judge = NIGHTLY[gate]
        day_of = {d.what: FIRST + timedelta(days=nth) for nth, d in enumerate(defects)}
        nights = {day: sane(day) for day in (*day_of.values(), FIRST + timedelta(len(defects)))}
        for defect in defects:
            defect.seed(nights[day_of[defect.what]])
        return Spoilt(day_of, {check.name: check for check in judge(spark, nights).checks})

    return judge_all


def of(table: dict[str, Any]) -> list[Any]:
    return [
        pytest.param(gate, defect, id=f"{gate}: {defect.what} -> {defect.caught_by}")
        for gate, (defects, _, _) in table.items()
        for defect in defects
    ]


@pytest.mark.spark
@pytest.mark.parametrize(("gate", "defect"), of(NIGHTLY))
def test_a_defect_of_a_night_is_caught(
    spoilt: Callable[[str], Spoilt], gate: str, defect: Defect
) -> None:
    found = spoilt(gate)
    check = found.checks[defect.caught_by]
    assert (check.status, check.severity) == ("failed", defect.severity)
    for name in (defect.caught_by, *defect.also):
        named = found.named_by(name)
        assert str(found.day_of[defect.what]) in named or named & STRAY, check.observed


@pytest.mark.spark
@pytest.mark.parametrize("gate", NIGHTLY)
def test_nothing_else_is_caught(spoilt: Callable[[str], Spoilt], gate: str) -> None:
    found = spoilt(gate)
    for name, check in found.checks.items():
        meant = {
            str(found.day_of[defect.what])
            for defect in NIGHTLY[gate][0]
            if name in (defect.caught_by, *defect.also)
        }
        assert found.named_by(name) - STRAY <= meant, check


@pytest.mark.parametrize(("gate", "defect"), of(SINGLE))
def test_a_defect_of_figures_is_caught(gate: str, defect: Defect) -> None:
    _, sane, judge = SINGLE[gate]
    assert {check.status for check in judge(sane()).checks} == {"passed"}
    figures = sane()
    defect.seed(figures)
    result = judge(figures)
    failed = {check.name: check.severity for check in result.checks if check.status == "failed"}
    assert failed == {defect.caught_by: defect.severity}
    assert result.passed == (defect.severity == "warn")


@pytest.mark.parametrize("defect", COLUMNS, ids=lambda defect: defect.what)
@pytest.mark.parametrize("table", [TRANSACTIONS, FEATURES_TABLE, SCORES], ids=lambda t: t.name)
def test_a_wrong_column_is_caught_before_rows_are_counted(table: Table, defect: Defect) -> None:
    declared = row_counts.declared_types(table)
    found = dict(declared)
    defect.seed(found)
    if table is TRANSACTIONS:
        assert transactions.judge_schema(declared, declared).passed
        result = transactions.judge_schema(found, declared)
    else:
        suite = features.SUITE if table is FEATURES_TABLE else scores.SUITE
        # Neither frame is looked at.
        rows = RowsToPublish(None, None, found, Dates(FIRST, FIRST))  # type: ignore[arg-type]
        result = suite.judge(rows)
    (check,) = result.checks
    assert (check.name, check.status, check.severity) == (defect.caught_by, "failed", "fail")
    (name,) = {n for n in {**found, **declared} if found.get(n) != declared.get(n)}
    assert check.observed.startswith(f"{name}: ")


def test_every_expectation_has_a_defect() -> None:
    killed = {
        gate: {defect.caught_by for defect in (*defects, *columns)}
        for table, columns in ((NIGHTLY, COLUMNS), (SINGLE, []))
        for gate, (defects, _, _) in table.items()
    }
    expected = {
        gate: {expectation.name for expectation in expectations}
        for gate, expectations in all_expectations().items()
    }
    assert killed == expected


def test_names_of_expectations_are_unique() -> None:
    for gate, expectations in all_expectations().items():
        names = [expectation.name for expectation in expectations]
        assert len(names) == len(set(names)), gate


def test_an_undecided_check_says_why_and_stops_nothing() -> None:
    undecided = {"status": "not applicable", "why": "6 nights; a comparison needs 7."}
    figures = {
        "features": {**undecided, "columns": {}},
        "scores": {**undecided, "columns": {}},
        "calibration": {**undecided, "levels": []},
        "alerts": undecided,
        "late": {"num_rows": 0, "by_event_date": {}},
    }
    result = monitor.judge(figures)
    statuses = {check.name: check.status for check in result.checks}
    assert statuses.pop("late_rows") == "passed"
    assert set(statuses.values()) == {"not applicable"}
    assert {check.observed for check in result.checks} >= {undecided["why"]}


def test_volume_is_judged_from_seven_earlier_nights_on() -> None:
    def judge(history: dict[date, int], *accepted: int) -> dict[str, str]:
        facts = [
            NightCounts(FIRST + timedelta(days=nth), rows_read=n, rows_accepted=n)
            for nth, n in enumerate(accepted)
        ]
        dates = Dates(FIRST, FIRST + timedelta(days=len(accepted) - 1))
        result = transactions.judge(
            dates, facts, [transactions.volume(facts, history)], transactions._volume()
        )
        return {check.name: f"{check.status} {check.observed}" for check in result.checks}

    six = {FIRST - timedelta(days=1 + back): 100 for back in range(6)}
    seven = {**six, FIRST - timedelta(days=7): 120}
    assert set(judge(six, 9).values()) == {"not applicable fewer than 7 earlier nights, or no rows"}
    assert judge(six, 9, 0)["volume_plausible"].startswith("not applicable")
    assert judge(seven, 60)["volume"] == "passed 60 rows against a median of 100"
    assert judge(seven, 49, 201)["volume"] == (
        "failed 2024-03-01: 49 rows against a median of 100; "
        "2024-03-02: 201 rows against a median of 100"
    )
    assert judge(seven, 49, 201)["volume_plausible"] == "passed 2 hold"
    # A bank of few cards is not steady, and chance is no defect.
    assert judge(dict.fromkeys(seven, 3), 7)["volume"].startswith("passed")
