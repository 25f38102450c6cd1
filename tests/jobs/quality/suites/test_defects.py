"""Mutation tests of the gates: one seeded defect for every expectation, which must then fail.

Each defect of a delivery or of staged rows is seeded into a night of its own. So Spark counts, and
the gate checks, all defects at once. `pytest -v` lists defects and expectations.
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
from jobs.quality.delivery_counts import NightCounts, StagedDelivery, count_nights
from jobs.quality.gate import Check, GateResult
from jobs.quality.rows.numbers import MAX_AMOUNT
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
    """A defect, the expectation that must fail, and further ones that may fail too."""

    text: str
    caught_by: str
    seed: Callable[[Any], object]
    severity: str = "fail"
    also: tuple[str, ...] = ()


def set_value(rows: str, column: str, value: Any) -> Callable[[Night], object]:
    """Return a defect that sets one value of a night's first row."""
    return lambda night: night[rows][0].update({column: value})


def add_to_count(count: str, more: int) -> Callable[[Night], object]:
    """Return a defect that changes a count of a night."""
    return lambda night: night.update({count: night[count] + more})


def duplicate_row(rows: str) -> Callable[[Night], object]:
    """Return a defect that replaces the last row by a copy of the first."""
    return lambda night: night[rows].__setitem__(-1, dict(night[rows][0]))


# -- gate 1 ----------------------------------------------------------------------------------------


def valid_delivery(day: date) -> Night:
    """Return a night without defects: ten rows read and accepted, two labels."""
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
            "has_time_of_day": True,
            "accepted": True,
            "reasons": [],
            "label_reasons": [],
            "raw": None,
        }
        for nth in range(NUM_ROWS)
    ]
    labels = [
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
    return {"rows": rows, "labels": labels, "rows_read": NUM_ROWS, "labels_read": 2}


def quarantine(num_rows: int, *reasons: str, raw: str = "{}") -> Callable[[Night], object]:
    """Return a defect that quarantines the first rows of a night."""

    def seed(night: Night) -> None:
        for row in night["rows"][:num_rows]:
            row.update(accepted=False, reasons=list(reasons), raw=raw)

    return seed


def multiply_rows(times: int) -> Callable[[Night], object]:
    """Return a defect that multiplies the rows of a night, with new ids."""

    def seed(night: Night) -> None:
        night["rows"] = [
            {**row, "transaction_id": f"{row['transaction_id']}/{copy}"}
            for row in night["rows"]
            for copy in range(times)
        ]
        night["rows_read"] *= times

    return seed


def remove_all(night: Night) -> None:
    night.update(rows=[], labels=[], rows_read=0, labels_read=0)


def move_to_other_night(night: Night) -> None:
    night["rows"][0]["business_date"] = FIRST - timedelta(days=400)
    night["rows_read"] -= 1


DELIVERY = [
    Defect("a row is lost", "conservation", add_to_count("rows_read", 1)),
    Defect("a row is repeated", "conservation", add_to_count("rows_read", -1)),
    Defect("a label is lost", "label_conservation", add_to_count("labels_read", 1)),
    Defect(
        "an unclosed quote",
        "no_swallowed_rows",
        quarantine(1, "record_of_many_lines", raw='{"id": "1\\n2,3"}'),
    ),
    Defect("no rows are delivered", "rows_read", remove_all),
    Defect("30% quarantined", "quarantined_share", quarantine(3, "missing_amount")),
    Defect("an id is accepted twice", "keys_unique", duplicate_row("rows")),
    *(
        Defect(f"{name} is null", f"{name}_given", set_value("rows", name, None), also=also)
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
        set_value("rows", "amount", Decimal(-MAX_AMOUNT - 1)),
    ),
    Defect(
        "an amount is too high",
        "amount_at_most",
        set_value("rows", "amount", Decimal(MAX_AMOUNT + 1)),
    ),
    Defect("a row of another night", "dates_in_range", move_to_other_night, also=("rows_read",)),
    Defect(
        "a payment has only a date",
        "times_of_day",
        set_value("rows", "has_time_of_day", False),
        "warn",
    ),
    Defect("three times the rows", "volume", multiply_rows(3), "warn"),
    Defect("six times the rows", "volume_plausible", multiply_rows(6), also=("volume",)),
    Defect("a label is accepted twice", "label_keys_unique", duplicate_row("labels")),
    *(
        Defect(
            f"a label's {name} is null",
            f"label_{name}_given",
            set_value("labels", name, None),
            also=also,
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
    """Return rows as a frame that allows null in every column."""
    ddl = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    values = [tuple(row.get(name) for name in types) for row in rows]
    return spark.createDataFrame(values, ddl).coalesce(1)


def types_of(table: Table) -> dict[str, str]:
    return {column.name: column.type for column in table.columns}


def check_deliveries(spark: SparkSession, nights: dict[date, Night]) -> GateResult:
    outcome = {"accepted": "boolean", "reasons": "array<string>"}
    types = {
        **types_of(TRANSACTIONS),
        **outcome,
        "raw": "string",
        "is_fraud": "boolean",
        "has_time_of_day": "boolean",
        "label_reasons": "array<string>",
    }
    rows = frame(spark, [row for night in nights.values() for row in night["rows"]], types)
    label_rows = frame(
        spark,
        [row for night in nights.values() for row in night["labels"]],
        {**types_of(LABELS), **outcome, "dropped": "boolean"},
    )
    rows_read = {day: night["rows_read"] for day, night in nights.items()}
    labels_read = {day: night["labels_read"] for day, night in nights.items()}
    dates = Dates(min(nights), max(nights))
    counts = count_nights(dates, StagedDelivery(rows, label_rows, rows_read, labels_read))
    facts = [
        transactions.volume(counts, HISTORY),
        *transactions.compute_facts(rows.where("accepted")),
        *labels.compute_facts(label_rows.where("accepted")),
    ]
    return transactions.run_checks(dates, counts, facts, transactions.expectations())


# -- gates 2 and 4 ---------------------------------------------------------------------------------


def valid_staged(table: Table, day: date) -> Night:
    """Return a night without defects: ten accepted transactions with one valid row each."""
    keys = [
        {key: row[key] for key in row if key != "ingest_time"}
        for row in valid_delivery(day)["rows"]
    ]
    values = (
        {
            name: {"bigint": 1, "string": "a"}.get(feature.type, 0.5)
            for name, feature in FEATURES.items()
        }
        if table.name == FEATURES_TABLE.name
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
    return {"accepted": keys, "staged": [{**key, **values} for key in keys], "cards": NUM_ROWS}


KEYS = [
    Defect("a row is missing", "every_transaction_has_one", lambda night: night["staged"].pop()),
    Defect(
        "a row has no accepted transaction",
        "every_row_is_accepted",
        lambda night: night["accepted"].pop(),
    ),
    Defect(
        "a row is duplicated",
        "keys_unique",
        lambda night: night["staged"].append(dict(night["staged"][0])),
    ),
]
# A row with a wrong key is also missing for its own key.
KEY_CHECKS = ("every_transaction_has_one", "every_row_is_accepted")


def nulls(table: Table) -> list[Defect]:
    return [
        Defect(
            f"{column.name} is null",
            f"{column.name}_given",
            set_value("staged", column.name, None),
            also=KEY_CHECKS if column.name in ("transaction_id", "business_date") else (),
        )
        for column in table.columns
        if not column.nullable
    ]


NULL_WITHOUT_EARLIER = {
    Function.RATIO, Function.STD, Function.SECONDS_SINCE_LAST, Function.SAME_SHARE,
    Function.DEVIATION, Function.QUANTILE_RANK, Function.HOUR_SHARE,
    Function.KILOMETRES_SINCE_LAST, Function.SPEED_SINCE_LAST,
}  # fmt: skip


def may_be_null(feature: Feature) -> bool:
    """Return whether a feature can be null: no denominator, no event, or no second event."""
    if feature.function in NULL_WITHOUT_EARLIER or feature.has_nullable_key:
        return True
    if feature.window is None and feature.attributes:
        return True
    if feature.window is None or feature.empty is not None or feature.type == "bigint":
        return False
    # A window without delay contains at least the transaction itself.
    share = feature.function is Function.SHARE
    return feature.window.delay_days > 0 or (feature.where is not None and not share)


def feature_defects() -> list[Defect]:
    """Return the defects of every feature in the catalogue; a new feature is included."""
    defects = [*KEYS, *nulls(FEATURES_TABLE)]
    for name, feature in FEATURES.items():
        if feature.type == "string":
            continue
        low = -10 if feature.type == "bigint" else -1e16
        too_low = set_value("staged", name, low)
        defects.append(Defect(f"{name} is far too low", f"{name}_at_least", too_low))
        if feature.type != "bigint":
            at_most = f"{name}_at_most"
            defects.append(Defect(f"{name} is NaN", at_most, set_value("staged", name, NAN)))
            defects.append(Defect(f"{name} is too high", at_most, set_value("staged", name, 2e15)))
        if not may_be_null(feature):
            null = set_value("staged", name, None)
            defects.append(Defect(f"{name} is null", f"{name}_there", null))
    return defects


SCORE = [
    *KEYS,
    *nulls(SCORES),
    Defect("two models scored the night", "one_model", set_value("staged", "model_version", "4")),
    Defect(
        "a version is not a number", "one_model", set_value("staged", "model_version", "champion")
    ),
    Defect("a score is negative", "score_at_least", set_value("staged", "score", -0.1)),
    Defect("a score is above 1", "score_at_most", set_value("staged", "score", 1.1)),
    Defect("a score is NaN", "score_at_most", set_value("staged", "score", NAN)),
    *(
        Defect(f"{name} is {value}", f"{name}_{form}", set_value("staged", name, value))
        for name in ("reconstruction_error", "ranking_value")
        for form, value in (("at_least", -INFINITE), ("at_most", INFINITE))
    ),
    Defect(
        "the number of context events is negative",
        "num_context_events_at_least",
        set_value("staged", "num_context_events", -1),
    ),
    Defect("six times the alerts", "alert_volume", lambda night: night.update(cards=60)),
]


def check_staged(spark: SparkSession, suite: StagedSuite, nights: dict[date, Night]) -> GateResult:
    types = {"business_date": "date", "transaction_id": "string"}
    accepted = frame(spark, [row for n in nights.values() for row in n["accepted"]], types)
    types = types_of(suite.table)
    staged = frame(spark, [row for night in nights.values() for row in night["staged"]], types)
    keys = row_counts.AcceptedKeys(accepted, version=0)
    rows = RowsToPublish(keys, staged, dict(staged.dtypes), Dates(min(nights), max(nights)))
    tonight = {day: night["cards"] for day, night in nights.items()}
    further_facts = [scores.alert_volume(tonight, HISTORY)] if suite is scores.SUITE else []
    return suite.run_checks(rows, lambda: further_facts)


# -- columns, gate 3, monitor ----------------------------------------------------------------------


COLUMNS = [
    Defect("a column has another type", "schema", lambda types: types.update(amount="double")),
    Defect("a column is missing", "schema", lambda types: types.pop("card_id")),
    Defect("a column is new", "schema", lambda types: types.update(stranger="string")),
]


def valid_evaluations() -> dict[str, Any]:
    better = {"num_transactions": 100, "average_precision": 0.3, "cp_at_k": 0.2}
    worse = {"num_transactions": 100, "average_precision": 0.3, "cp_at_k": 0.1}
    return {"candidate": better, "incumbent": worse, "as_of": FIRST, "evaluated_from": FIRST}


MODEL = [
    Defect("other rows", "same_rows", lambda f: f["incumbent"].update(num_transactions=99)),
    Defect("no row count", "same_rows", lambda f: f["candidate"].pop("num_transactions")),
    Defect("trained nights", "out_of_sample", lambda f: f.update(as_of=FIRST + timedelta(days=1))),
    *(
        Defect(
            f"{name} is {value}",
            f"{name}_at_least_incumbent",
            lambda f, n=name, v=value: f["candidate"].update({n: v}),
        )
        for name in ("average_precision", "cp_at_k")
        for value in (0.01, NAN, None)
    ),
]


def check_model(figures: dict[str, Any]) -> GateResult:
    facts = model.facts(figures, "candidate", "incumbent")
    return model.run_checks(facts | model.sample_facts(figures["as_of"], figures["evaluated_from"]))


def valid_monitor_figures() -> dict[str, Any]:
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

# By gate: its defects, a function that makes a valid night, and one that checks many nights.
NIGHTLY: dict[str, tuple[list[Defect], Callable[[date], Night], Callable[..., GateResult]]] = {
    transactions.GATE: (DELIVERY, valid_delivery, check_deliveries),
    features.SUITE.gate: (
        feature_defects(),
        lambda day: valid_staged(FEATURES_TABLE, day),
        lambda spark, nights: check_staged(spark, features.suite_of(FEATURES), nights),
    ),
    scores.SUITE.gate: (
        SCORE,
        lambda day: valid_staged(SCORES, day),
        lambda spark, nights: check_staged(spark, scores.SUITE, nights),
    ),
}
SINGLE: dict[str, tuple[list[Defect], Callable[[], Any], Callable[[Any], GateResult]]] = {
    model.GATE: (MODEL, valid_evaluations, check_model),
    monitor.GATE: (MONITOR, valid_monitor_figures, monitor.run_checks),
}
# Names of nights outside the run, to which some defects move a row.
OUTSIDE = {"None", str(FIRST - timedelta(days=400))}


@dataclass(frozen=True)
class DefectiveNights:
    """The checks of a gate on one night per defect, and on a last night without defects."""

    day_of: dict[str, date]
    checks: dict[str, Check]

    def named_by(self, check: str) -> set[str]:
        """Return the nights that a failed check names."""
        if self.checks[check].status != "failed":
            return set()
        return set(re.findall(r"(?:^|; )(\d{4}-\d\d-\d\d|None): ", self.checks[check].observed))


@pytest.fixture(scope="module")
def defective_nights(spark: SparkSession) -> Callable[[str], DefectiveNights]:
    @cache
    def check_all(gate: str) -> DefectiveNights:
        defects, make_valid, run_checks = NIGHTLY[gate]
        day_of = {d.text: FIRST + timedelta(days=nth) for nth, d in enumerate(defects)}
        nights = {
            day: make_valid(day) for day in (*day_of.values(), FIRST + timedelta(len(defects)))
        }
        for defect in defects:
            defect.seed(nights[day_of[defect.text]])
        checks = run_checks(spark, nights).checks
        return DefectiveNights(day_of, {check.name: check for check in checks})

    return check_all


def parameters(table: dict[str, Any]) -> list[Any]:
    """Return one test parameter per defect."""
    return [
        pytest.param(gate, defect, id=f"{gate}: {defect.text} -> {defect.caught_by}")
        for gate, (defects, _, _) in table.items()
        for defect in defects
    ]


@pytest.mark.spark
@pytest.mark.parametrize(("gate", "defect"), parameters(NIGHTLY))
def test_seeded_defect_fails_its_check(
    defective_nights: Callable[[str], DefectiveNights], gate: str, defect: Defect
) -> None:
    result = defective_nights(gate)
    check = result.checks[defect.caught_by]
    assert (check.status, check.severity) == ("failed", defect.severity)
    for name in (defect.caught_by, *defect.also):
        named = result.named_by(name)
        assert str(result.day_of[defect.text]) in named or named & OUTSIDE, check.observed


@pytest.mark.spark
@pytest.mark.parametrize("gate", NIGHTLY)
def test_valid_nights_fail_no_check(
    defective_nights: Callable[[str], DefectiveNights], gate: str
) -> None:
    result = defective_nights(gate)
    for name, check in result.checks.items():
        expected = {
            str(result.day_of[defect.text])
            for defect in NIGHTLY[gate][0]
            if name in (defect.caught_by, *defect.also)
        }
        assert result.named_by(name) - OUTSIDE <= expected, check


@pytest.mark.parametrize(("gate", "defect"), parameters(SINGLE))
def test_seeded_defect_of_metrics_fails_its_check(gate: str, defect: Defect) -> None:
    _, make_valid, run_checks = SINGLE[gate]
    assert {check.status for check in run_checks(make_valid()).checks} == {"passed"}
    figures = make_valid()
    defect.seed(figures)
    result = run_checks(figures)
    failed = {check.name: check.severity for check in result.checks if check.status == "failed"}
    assert failed == {defect.caught_by: defect.severity}
    assert result.passed == (defect.severity == "warn")


@pytest.mark.parametrize("defect", COLUMNS, ids=lambda defect: defect.text)
@pytest.mark.parametrize("table", [TRANSACTIONS, FEATURES_TABLE, SCORES], ids=lambda t: t.name)
def test_wrong_column_fails_the_schema_check_before_counting(table: Table, defect: Defect) -> None:
    declared = row_counts.declared_types(table)
    found = dict(declared)
    defect.seed(found)
    if table is TRANSACTIONS:
        assert transactions.check_schema(declared, declared).passed
        result = transactions.check_schema(found, declared)
    else:
        suite = features.SUITE if table is FEATURES_TABLE else scores.SUITE
        # Neither frame is read.
        rows = RowsToPublish(None, None, found, Dates(FIRST, FIRST))  # type: ignore[arg-type]
        result = suite.run_checks(rows)
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


def test_expectation_names_are_unique_per_gate() -> None:
    for gate, expectations in all_expectations().items():
        names = [expectation.name for expectation in expectations]
        assert len(names) == len(set(names)), gate


def test_check_that_is_not_applicable_gives_its_reason() -> None:
    not_applicable = {"status": "not applicable", "why": "6 nights; a comparison needs 7."}
    figures = {
        "features": {**not_applicable, "columns": {}},
        "scores": {**not_applicable, "columns": {}},
        "calibration": {**not_applicable, "levels": []},
        "alerts": not_applicable,
        "late": {"num_rows": 0, "by_event_date": {}},
    }
    result = monitor.run_checks(figures)
    statuses = {check.name: check.status for check in result.checks}
    assert statuses.pop("late_rows") == "passed"
    assert set(statuses.values()) == {"not applicable"}
    assert {check.observed for check in result.checks} >= {not_applicable["why"]}


def test_volume_is_checked_from_seven_earlier_nights_on() -> None:
    def statuses(history: dict[date, int], *accepted: int) -> dict[str, str]:
        counts = [
            NightCounts(FIRST + timedelta(days=nth), rows_read=n, rows_accepted=n)
            for nth, n in enumerate(accepted)
        ]
        dates = Dates(FIRST, FIRST + timedelta(days=len(accepted) - 1))
        result = transactions.run_checks(
            dates, counts, [transactions.volume(counts, history)], transactions._volume()
        )
        return {check.name: f"{check.status} {check.observed}" for check in result.checks}

    six = {FIRST - timedelta(days=1 + back): 100 for back in range(6)}
    seven = {**six, FIRST - timedelta(days=7): 120}
    assert set(statuses(six, 9).values()) == {
        "not applicable fewer than 7 earlier nights, or no rows"
    }
    assert statuses(six, 9, 0)["volume_plausible"].startswith("not applicable")
    assert statuses(seven, 60)["volume"] == "passed 60 rows, median 100 before"
    assert statuses(seven, 49, 201)["volume"] == (
        "failed 2024-03-01: 49 rows, median 100 before; 2024-03-02: 201 rows, median 100 before"
    )
    assert statuses(seven, 49, 201)["volume_plausible"] == "passed 2 passed"
    # At a bank with few cards the volume varies by chance, which must not fail the check.
    assert statuses(dict.fromkeys(seven, 3), 7)["volume"].startswith("passed")
