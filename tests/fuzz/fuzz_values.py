"""What a hostile or careless source may write into each column, and what has to come of it.

Hypothesis makes the values. Where an independent reading of a value (plain Python) says what must
become of its row, the value carries that verdict; elsewhere either fate is fine, so long as it is
exactly one.
"""

from __future__ import annotations

import struct
import unicodedata
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

EITHER, PASSES, ELSEWHERE = "?", "", "-"
MEGABYTE = 1 << 20
MAX_ID_CHARACTERS = 256
LOST = "\N{REPLACEMENT CHARACTER}"

HOSTILE = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</title><svg/onload=alert(1)>",
    '" onmouseover="alert(1)', "javascript:alert(1)", "{{ 7*7 }}", "${jndi:ldap://x/a}",
    "=1+1", "+1+1", "-2+3", "@SUM(A1)", "\t=1+1", "\r=1+1", '=HYPERLINK("x","y")', "x;=1+1",
    "\uff1d1+1", "=cmd|' /C calc'!A0", "'; DROP TABLE transactions; --", "` OR 1=1",
    "../../etc/passwd",
    "..\\..\\x", "/etc/passwd", "%2e%2e%2f", "a\x00b", "\x00", "\x1b[2J\x1b]0;owned\x07", "\x7f",
    "\x85", "a\u2028b", "\u202egnp.exe", "\u200b", "\ufeff", "e\u0301" * 50, "👩‍👩‍👧‍👦", "Ⅷ", "ﬁ",
    "null", "NULL", "None", "nan", "true", "\\N", "\\", '"', '""', "a\\nb", "''", "#", "$.tag",
    "a b", " lead", "trail ", "\xa0", "\u3000", "a\nb", "a\r\nb", "a\rb", "line\n=1+1", "z" * 256,
)  # fmt: skip
NOT_UTF8 = (b"caf\xe9", b"\xff\xfe", b"\xc3(", b"\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80",
            b"a\x00\xd8", "zahlung".encode("utf-16-le") + b"\xff")  # fmt: skip


@dataclass(frozen=True)
class Value:
    """What a row says in one column."""

    content: Any
    """Text, bytes that may be no UTF-8, a typed value, or None."""
    verdict: str = EITHER
    """EITHER; PASSES: no rule may refuse it; ELSEWHERE: another night's row; else the reason."""
    read: Any = None
    """What an accepted row has to hold, where that is known."""


Made = st.SearchStrategy[Value]


def examples(strategy: st.SearchStrategy[Any], count: int, with_seed: int) -> list[Any]:
    """At most `count` values of a strategy, the same for the same seed."""
    found: list[Any] = []

    @seed(with_seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


# -- texts ---------------------------------------------------------------------------------------


def luhn_holds(digits: str) -> bool:
    """Whether the last digit is the Luhn check of those before it."""
    turned = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 * (number > 9) for number in turned) % 10 == 0


def looks_like_a_card_number(text: str) -> bool:
    """13 to 19 ASCII digits with a valid Luhn digit, aside from what is no letter or digit."""
    kept = "".join(c for c in text if unicodedata.category(c)[0] == "L" or _is_digit(c))
    return kept.isascii() and kept.isdigit() and 13 <= len(kept) <= 19 and luhn_holds(kept)


def _is_digit(sign: str) -> bool:
    return unicodedata.category(sign) == "Nd"


def id_verdict(text: str, missing: str, *, pseudonymised: bool = False) -> str:
    """What has to become of a row with this id."""
    if all(unicodedata.category(c)[0] == "Z" or c in "\t\n\v\f\r" for c in text):
        return missing
    if LOST in text:
        return "unreadable_text"
    if pseudonymised:
        return PASSES
    if len(text) > MAX_ID_CHARACTERS:
        return "oversized_id"
    return "card_number_in_id" if looks_like_a_card_number(text) else PASSES


@st.composite
def card_numbers(draw: st.DrawFn) -> str:
    """Numbers with a valid check digit, with and without what people put between digits."""
    digits = draw(st.text("0123456789", min_size=12, max_size=18))
    digits = next(digits + check for check in "0123456789" if luhn_holds(digits + check))
    between = draw(st.sampled_from(("", "", " ", "-", ".", "\xa0")))
    return between.join(digits[i : i + 4] for i in range(0, len(digits), 4))


def texts() -> st.SearchStrategy[str]:
    """Any text, the hostile ones often."""
    return st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30), st.text(min_size=250))


def ids(missing: str, *, pseudonymised: bool) -> Made:
    """Ids of every kind."""
    some = st.one_of(texts(), card_numbers(), st.sampled_from(("", " ", "   ", LOST, "x" * 257)))
    judged = some.map(
        lambda text: Value(text, id_verdict(text, missing, pseudonymised=pseudonymised))
    )
    return st.one_of(judged, judged, not_utf8(), st.just(Value(None, missing)))


def not_utf8() -> Made:
    """Bytes that are no UTF-8."""
    return st.sampled_from(NOT_UTF8).map(lambda content: Value(content, "unreadable_text"))


def notes() -> Made:
    """A categorical attribute: any text passes that can be read."""
    judged = texts().map(lambda text: Value(text, "unreadable_text" if LOST in text else PASSES))
    return st.one_of(judged, judged, not_utf8(), st.just(Value(None, PASSES)))


def ignored() -> Made:
    """A column that nothing is made of."""
    some = st.one_of(texts(), st.sampled_from(NOT_UTF8), st.none())
    return some.map(lambda content: Value(content, PASSES))


# -- numbers -------------------------------------------------------------------------------------

BAD_AMOUNTS = {
    "": "missing_amount", "  ": "missing_amount", "NaN": "amount_not_finite",
    "nan": "amount_not_finite", "Infinity": "amount_not_finite", "-inf": "amount_not_finite",
    "12,50": "unparsable_amount", "1.000,00": "unparsable_amount", "1_000": "unparsable_amount",
    "0x10": "unparsable_amount", "\uff11\uff12": "unparsable_amount", "12 EUR": "unparsable_amount",
    "--5": "unparsable_amount", "1e": "unparsable_amount", "5d": "unparsable_amount",
    "=1+1": "unparsable_amount", "e5": "unparsable_amount", ".": "unparsable_amount",
    "1e400": "amount_out_of_range", "1e-400": "amount_out_of_range",
    "1e999999999": "amount_out_of_range", "9" * 41: "amount_out_of_range",
    "10000000000.001": "amount_out_of_range", "9" * 5000: "amount_out_of_range",
    "-0.01": "negative", "-1e3": "negative", LOST: "unreadable_text",
}  # fmt: skip


def read_amount(number: Decimal) -> Decimal:
    """Rounded half up to three decimals."""
    return number.quantize(Decimal("0.001"), ROUND_HALF_UP)


def amount_of(content: Any, number: Decimal, refunds: str) -> Value:
    """A finite number as an amount."""
    try:
        read = read_amount(number)
    except InvalidOperation:
        return Value(content, "amount_out_of_range")
    if abs(read) > 10_000_000_000:
        return Value(content, "amount_out_of_range")
    return _signed(content, read, refunds)


def _signed(content: Any, read: Decimal, refunds: str) -> Value:
    if read < 0 and refunds == "refused":
        return Value(content, "negative_amount")
    return Value(content, PASSES, read)


def amount_texts(refunds: str) -> Made:
    """Amounts as text."""

    def bad(text: str) -> Value:
        reason = BAD_AMOUNTS[text]
        if reason == "negative":
            return _signed(text, read_amount(Decimal(text)), refunds)
        return Value(text, reason)

    plain = st.decimals(-(10**11), 10**11, allow_nan=False, allow_infinity=False, places=3)
    return st.one_of(
        st.sampled_from(sorted(BAD_AMOUNTS)).map(bad),
        plain.map(lambda number: amount_of(str(number), number, refunds)),
        st.floats().map(lambda number: Value(repr(number))),
        texts().map(Value),
        not_utf8(),
        st.just(Value(None, "missing_amount")),
    )


def amount_doubles(refunds: str) -> Made:
    """Amounts as doubles; rounding of doubles is Spark's own affair, so values are not compared."""

    def judged(number: float) -> Value:
        if number != number or abs(number) == float("inf"):
            return Value(number, "amount_not_finite")
        found = amount_of(number, Decimal(number), refunds)
        edge = abs(abs(number) - 10_000_000_000) < 1 or abs(number) < 0.01
        return Value(number, EITHER if edge else found.verdict)

    return st.one_of(
        st.floats().map(judged), st.floats(-1e6, 1e6).map(judged),
        st.just(Value(None, "missing_amount")),
    )  # fmt: skip


def amount_decimals(refunds: str) -> Made:
    """Amounts as decimals of 38 digits, ten of them behind the point."""
    some = st.one_of(
        st.decimals(-(10**27), 10**27, allow_nan=False, allow_infinity=False, places=10),
        st.decimals(-(10**5), 10**5, allow_nan=False, allow_infinity=False, places=10),
        st.decimals(Decimal("-0.001"), Decimal("0.001"), places=10),
    )
    judged = some.map(lambda number: amount_of(number, number, refunds))
    return st.one_of(judged, judged, st.just(Value(None, "missing_amount")))


def risk_texts() -> Made:
    """A numeric attribute as text: what is there has to be a number."""
    bad = st.sampled_from(("NaN", "inf", "high", "1,5", "1e", "0x1", "½", "\uff19")).map(
        lambda text: Value(text, "unparsable_attribute")
    )
    good = st.one_of(st.floats(-1e300, 1e300).map(repr), st.sampled_from(("", " ", "1e5", "+.5")))
    return st.one_of(
        bad, good.map(lambda text: Value(text, PASSES)), texts().map(Value), not_utf8(),
        st.just(Value(None, PASSES)),
    )  # fmt: skip


def risk_doubles() -> Made:
    """A numeric attribute as double: NaN and infinity are absences."""
    return st.one_of(st.floats(), st.none()).map(lambda number: Value(number, PASSES))


def risk_floats() -> Made:
    """The same in single precision."""
    return st.floats(width=32).map(lambda number: Value(_single(number), PASSES))


def _single(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])


def flags_text() -> Made:
    """Labels: an unreadable one refuses the label, never its transaction."""
    words = (
        "0",
        "1",
        "true",
        "FALSE",
        "yes",
        "n",
        "",
        " ",
        "2",
        "maybe",
        "1.0",
        "-1",
        "\uff11",
        "0e0",
    )
    known = st.sampled_from(words).map(lambda text: Value(text, PASSES))
    return st.one_of(known, known, not_utf8(), st.just(Value(None, PASSES)))


def passing(some: st.SearchStrategy[Any]) -> Made:
    """Values that no rule may refuse."""
    return some.map(lambda content: Value(content, PASSES))
