"""The fuzzing itself can fail: what must not happen is seen when it does."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from fuzz_deliveries import COLUMNS, PLANS, Row, rows_of
from fuzz_ledger import Fate, Ledger, complaints
from fuzz_pages import live_in_list, live_in_page
from fuzz_values import PASSES, Value, looks_like_a_card_number

MOMENT = datetime(2024, 3, 30, tzinfo=UTC)
GOOD = (Decimal("1.000"), MOMENT)


def row(tag: str, **verdicts: str) -> Row:
    values = {name: Value("x", verdicts.get(name, PASSES)) for name in COLUMNS}
    values |= {"tag": Value(tag, PASSES), "amount": Value("1", PASSES, GOOD[0])}
    return Row({**values, "at": Value("x", verdicts.get("at", PASSES), MOMENT)})


SENT = [row("good"), row("bad", at="too_late"), row("copied"), row("copied"), row("other", day="-")]
FATES = {
    "good": Fate([GOOD], []),
    "bad": Fate([], [{"too_late", "missing_card_id"}]),
    "copied": Fate([GOOD], [{"identical_duplicate"}]),
}


def wrong(**changes: Fate) -> list[str]:
    return complaints(Ledger(PLANS[0], {**FATES, **changes}, withheld=0), SENT)


def test_rows_that_went_where_they_should_are_no_complaint() -> None:
    assert wrong() == []


@pytest.mark.parametrize(
    ("tag", "fate"),
    [
        ("good", Fate()),
        ("good", Fate([GOOD, GOOD], [])),
        ("good", Fate([GOOD], [{"identical_duplicate"}])),
        ("good", Fate([], [{"too_late"}])),
        ("good", Fate([(Decimal("1.001"), MOMENT)], [])),
        ("good", Fate([(GOOD[0], MOMENT + timedelta(hours=9))], [])),
        ("bad", Fate([GOOD], [])),
        ("bad", Fate([], [{"missing_card_id"}])),
        ("copied", Fate([GOOD, GOOD], [])),
        ("copied", Fate([], [{"identical_duplicate"}] * 2)),
        ("other", Fate([GOOD], [])),
        ("unheard of", Fate([GOOD], [])),
    ],
)
def test_a_wrong_fate_is_a_complaint(tag: str, fate: Fate) -> None:
    (complaint,) = wrong(**{tag: fate})
    assert repr(tag) in complaint


def test_withheld_rows_are_counted() -> None:
    secret = PLANS[1]
    sent = [row("good"), replace(row("cut"), damage=-1)]
    kept = {"good": FATES["good"]}
    assert complaints(Ledger(secret, kept, withheld=1), sent) == []
    assert len(complaints(Ledger(secret, kept, withheld=0), sent)) == 1


def test_live_content_is_seen() -> None:
    assert live_in_page("<p>&lt;script&gt;</p><a href='#x'>x</a>") == []
    for hostile in ("<script>", "<p onclick='x'>", "<a href='javascript:x'>", "<img src='x'>"):
        assert len(live_in_page(hostile)) >= 1
    assert live_in_list("a,'=1,-3.5\r\n") == []
    assert live_in_list("a,=1\r\n") and live_in_list('1,"a;@x"\r\n') and live_in_list("\t=1")


def test_the_same_seed_gives_the_same_rows_and_all_kinds_of_them() -> None:
    for plan in PLANS:
        rows, again = rows_of(plan, 200, 3), rows_of(plan, 200, 3)
        assert [str(r.values) for r in rows] == [str(r.values) for r in again]
        assert {PASSES, "conflicting_duplicate"} <= {v for r in rows for v in r.verdicts}
        assert len({r.tag for r in rows}) < len(rows)


def test_card_numbers_are_known_by_their_check_digit() -> None:
    assert looks_like_a_card_number("4111-1111 1111.1111")
    assert not looks_like_a_card_number("4111111111111112")
    assert not looks_like_a_card_number("x4111111111111111")
