"""The checks of the fuzzer detect what they are meant to detect."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from fuzz_deliveries import COLUMNS, PLANS, Row, rows_of
from fuzz_ledger import Ledger, RowOutcome, violations
from fuzz_pages import active_in_page, formulas_in_list
from fuzz_values import ACCEPTED, Value, is_card_number

MOMENT = datetime(2024, 3, 30, tzinfo=UTC)
GOOD = (Decimal("1.000"), MOMENT)


def row(tag: str, **expected_outcomes: str) -> Row:
    values = {name: Value("x", expected_outcomes.get(name, ACCEPTED)) for name in COLUMNS}
    values |= {"tag": Value(tag, ACCEPTED), "amount": Value("1", ACCEPTED, GOOD[0])}
    return Row({**values, "at": Value("x", expected_outcomes.get("at", ACCEPTED), MOMENT)})


SENT = [row("good"), row("bad", at="too_late"), row("copied"), row("copied"), row("other", day="-")]
OUTCOMES = {
    "good": RowOutcome([GOOD], []),
    "bad": RowOutcome([], [{"too_late", "missing_card_id"}]),
    "copied": RowOutcome([GOOD], [{"identical_duplicate"}]),
}


def wrong(**changes: RowOutcome) -> list[str]:
    return violations(Ledger(PLANS[0], {**OUTCOMES, **changes}, withheld=0), SENT)


def test_expected_outcomes_have_no_violation() -> None:
    assert wrong() == []


@pytest.mark.parametrize(
    ("tag", "outcome"),
    [
        ("good", RowOutcome()),
        ("good", RowOutcome([GOOD, GOOD], [])),
        ("good", RowOutcome([GOOD], [{"identical_duplicate"}])),
        ("good", RowOutcome([], [{"too_late"}])),
        ("good", RowOutcome([(Decimal("1.001"), MOMENT)], [])),
        ("good", RowOutcome([(GOOD[0], MOMENT + timedelta(hours=9))], [])),
        ("bad", RowOutcome([GOOD], [])),
        ("bad", RowOutcome([], [{"missing_card_id"}])),
        ("copied", RowOutcome([GOOD, GOOD], [])),
        ("copied", RowOutcome([], [{"identical_duplicate"}] * 2)),
        ("other", RowOutcome([GOOD], [])),
        ("unheard of", RowOutcome([GOOD], [])),
    ],
)
def test_wrong_outcome_is_a_violation(tag: str, outcome: RowOutcome) -> None:
    (violation,) = wrong(**{tag: outcome})
    assert repr(tag) in violation


def test_withheld_rows_are_counted() -> None:
    secret = PLANS[1]
    sent = [row("good"), replace(row("cut"), extra_cells=-1)]
    kept = {"good": OUTCOMES["good"]}
    assert violations(Ledger(secret, kept, withheld=1), sent) == []
    assert len(violations(Ledger(secret, kept, withheld=0), sent)) == 1


def test_active_content_is_detected() -> None:
    assert active_in_page("<p>&lt;script&gt;</p><a href='#x'>x</a>") == []
    for hostile in ("<script>", "<p onclick='x'>", "<a href='javascript:x'>", "<img src='x'>"):
        assert len(active_in_page(hostile)) >= 1
    assert formulas_in_list("a,'=1,-3.5\r\n") == []
    assert (
        formulas_in_list("a,=1\r\n")
        and formulas_in_list('1,"a;@x"\r\n')
        and formulas_in_list("\t=1")
    )


def test_same_seed_gives_same_rows_of_all_kinds() -> None:
    for plan in PLANS:
        rows, again = rows_of(plan, 200, 3), rows_of(plan, 200, 3)
        assert [str(r.values) for r in rows] == [str(r.values) for r in again]
        assert {ACCEPTED, "conflicting_duplicate"} <= {v for r in rows for v in r.expected_outcomes}
        assert len({r.tag for r in rows}) < len(rows)


def test_card_number_is_recognised_by_its_check_digit() -> None:
    assert is_card_number("4111-1111 1111.1111")
    assert not is_card_number("4111111111111112")
    assert not is_card_number("x4111111111111111")
