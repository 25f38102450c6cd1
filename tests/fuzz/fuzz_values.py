"""Generate hostile and careless values for each column, with the outcome that they must have.

Hypothesis generates the values. Where plain Python decides independently what must happen to the
row, the value carries that outcome. All other rows may be accepted or quarantined, but exactly
once.
"""

from __future__ import annotations

import struct
import unicodedata
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

ANY_OUTCOME, ACCEPTED, OTHER_NIGHT = "?", "", "-"
MEGABYTE = 1 << 20
MAX_ID_CHARACTERS = 256
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

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
INVALID_UTF8 = (
    b"caf\xe9", b"\xff\xfe", b"\xc3(", b"\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80",
    b"a\x00\xd8", "zahlung".encode("utf-16-le") + b"\xff",
)  # fmt: skip


@dataclass(frozen=True)
class Value:
    """The content of one column of a row, and the outcome that it must have."""

    content: Any
    """Text, bytes that may be invalid UTF-8, a typed value, or None."""
    expected: str = ANY_OUTCOME
    """ANY_OUTCOME, ACCEPTED (no rule may refuse it), OTHER_NIGHT, or the quarantine reason."""
    expected_value: Any = None
    """What an accepted row must contain, where that is known."""


Values = st.SearchStrategy[Value]


def examples(strategy: st.SearchStrategy[Any], count: int, seed_value: int) -> list[Any]:
    """Return up to `count` values of a strategy, the same for the same seed."""
    values: list[Any] = []

    @seed(seed_value)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        values.append(value)

    collect()
    return values


# -- texts ---------------------------------------------------------------------------------------


def has_luhn_digit(digits: str) -> bool:
    """Return whether the last digit is the Luhn check digit of those before it."""
    weighted = [int(digit) * (1 + at % 2) for at, digit in enumerate(reversed(digits))]
    return sum(number - 9 * (number > 9) for number in weighted) % 10 == 0


def is_card_number(text: str) -> bool:
    """Return whether a text has 13 to 19 digits with a Luhn digit, and no letters."""
    kept = "".join(c for c in text if unicodedata.category(c)[0] == "L" or _is_digit(c))
    return kept.isascii() and kept.isdigit() and 13 <= len(kept) <= 19 and has_luhn_digit(kept)


def _is_blank(character: str) -> bool:
    return unicodedata.category(character)[0] == "Z" or character in "\t\n\v\f\r"


def _is_digit(character: str) -> bool:
    return unicodedata.category(character) == "Nd"


def expected_for_id(text: str, missing: str, *, pseudonymised: bool = False) -> str:
    """Return the outcome that a row with this id must have."""
    # Blanks at the ends are no part of an id.
    text = text.strip("".join(filter(_is_blank, set(text))))
    if not text:
        return missing
    if REPLACEMENT in text:
        return "unreadable_text"
    if pseudonymised:
        return ACCEPTED
    if len(text) > MAX_ID_CHARACTERS:
        return "oversized_id"
    return "card_number_in_id" if is_card_number(text) else ACCEPTED


@st.composite
def card_numbers(draw: st.DrawFn) -> str:
    """Generate numbers with a valid check digit, with and without separators."""
    digits = draw(st.text("0123456789", min_size=12, max_size=18))
    digits = next(digits + check for check in "0123456789" if has_luhn_digit(digits + check))
    between = draw(st.sampled_from(("", "", " ", "-", ".", "\xa0")))
    return between.join(digits[i : i + 4] for i in range(0, len(digits), 4))


def texts() -> st.SearchStrategy[str]:
    """Generate any text, hostile ones often."""
    return st.one_of(st.sampled_from(HOSTILE), st.text(max_size=30), st.text(min_size=250))


def ids(missing: str, *, pseudonymised: bool) -> Values:
    """Generate ids of every kind."""
    some = st.one_of(
        texts(), card_numbers(), st.sampled_from(("", " ", "   ", REPLACEMENT, "x" * 257))
    )
    with_outcome = some.map(
        lambda text: Value(text, expected_for_id(text, missing, pseudonymised=pseudonymised))
    )
    return st.one_of(with_outcome, with_outcome, invalid_utf8(), st.just(Value(None, missing)))


def invalid_utf8() -> Values:
    """Generate bytes that are not valid UTF-8."""
    return st.sampled_from(INVALID_UTF8).map(lambda content: Value(content, "unreadable_text"))


def notes() -> Values:
    """Generate categorical attributes: every readable text is accepted."""
    with_outcome = texts().map(
        lambda text: Value(text, "unreadable_text" if REPLACEMENT in text else ACCEPTED)
    )
    return st.one_of(with_outcome, with_outcome, invalid_utf8(), st.just(Value(None, ACCEPTED)))


def ignored() -> Values:
    """Generate values of a column that the mapping does not use."""
    some = st.one_of(texts(), st.sampled_from(INVALID_UTF8), st.none())
    return some.map(lambda content: Value(content, ACCEPTED))


# -- numbers -------------------------------------------------------------------------------------

BAD_AMOUNTS = {
    "": "missing_amount", "  ": "missing_amount", "NaN": "amount_not_finite",
    "nan": "amount_not_finite", "Infinity": "amount_not_finite", "-inf": "amount_not_finite",
    "12,50": "unparsable_amount", "1.000,00": "unparsable_amount", "1_000": "unparsable_amount",
    "0x10": "unparsable_amount", "\uff11\uff12": "unparsable_amount", "12 EUR": "euros",
    "12 USD": "unparsable_amount",
    "--5": "unparsable_amount", "1e": "unparsable_amount", "5d": "unparsable_amount",
    "=1+1": "unparsable_amount", "e5": "unparsable_amount", ".": "unparsable_amount",
    "1e400": "amount_out_of_range", "1e-400": "amount_out_of_range",
    "1e999999999": "amount_out_of_range", "9" * 41: "amount_out_of_range",
    "10000000000.001": "amount_out_of_range", "9" * 5000: "amount_out_of_range",
    "-0.01": "negative", "-1e3": "negative", REPLACEMENT: "unreadable_text",
}  # fmt: skip


def read_amount(number: Decimal) -> Decimal:
    """Round half up to three decimals."""
    return number.quantize(Decimal("0.001"), ROUND_HALF_UP)


def amount_of(content: Any, number: Decimal, refunds: str) -> Value:
    """Return a finite number as an amount with its expected outcome."""
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
    return Value(content, ACCEPTED, read)


def amount_texts(refunds: str) -> Values:
    """Generate amounts as text."""

    def bad(text: str) -> Value:
        reason = BAD_AMOUNTS[text]
        if reason == "negative":
            return _signed(text, read_amount(Decimal(text)), refunds)
        if reason == "euros":
            # The declared currency after the number is understood.
            return Value(text, ACCEPTED, Decimal("12.000"))
        return Value(text, reason)

    plain = st.decimals(-(10**11), 10**11, allow_nan=False, allow_infinity=False, places=3)
    return st.one_of(
        st.sampled_from(sorted(BAD_AMOUNTS)).map(bad),
        plain.map(lambda number: amount_of(str(number), number, refunds)),
        st.floats().map(lambda number: Value(repr(number))),
        texts().map(Value),
        invalid_utf8(),
        st.just(Value(None, "missing_amount")),
    )


def amount_doubles(refunds: str) -> Values:
    """Generate amounts as doubles; Spark defines their rounding, so values are not compared."""

    def with_outcome(number: float) -> Value:
        if number != number or abs(number) == float("inf"):
            return Value(number, "amount_not_finite")
        value = amount_of(number, Decimal(number), refunds)
        edge = abs(abs(number) - 10_000_000_000) < 1 or abs(number) < 0.01
        return Value(number, ANY_OUTCOME if edge else value.expected)

    return st.one_of(
        st.floats().map(with_outcome), st.floats(-1e6, 1e6).map(with_outcome),
        st.just(Value(None, "missing_amount")),
    )  # fmt: skip


def amount_decimals(refunds: str) -> Values:
    """Generate amounts as decimals of 38 digits, ten of them after the point."""
    some = st.one_of(
        st.decimals(-(10**27), 10**27, allow_nan=False, allow_infinity=False, places=10),
        st.decimals(-(10**5), 10**5, allow_nan=False, allow_infinity=False, places=10),
        st.decimals(Decimal("-0.001"), Decimal("0.001"), places=10),
    )
    with_outcome = some.map(lambda number: amount_of(number, number, refunds))
    return st.one_of(with_outcome, with_outcome, st.just(Value(None, "missing_amount")))


def risk_texts() -> Values:
    """Generate numeric attributes as text: a text that is not empty must be a number."""
    bad = st.sampled_from(("NaN", "inf", "high", "1,5", "1e", "0x1", "½", "\uff19")).map(
        lambda text: Value(text, "unparsable_attribute")
    )
    good = st.one_of(st.floats(-1e300, 1e300).map(repr), st.sampled_from(("", " ", "1e5", "+.5")))
    return st.one_of(
        bad, good.map(lambda text: Value(text, ACCEPTED)), texts().map(Value), invalid_utf8(),
        st.just(Value(None, ACCEPTED)),
    )  # fmt: skip


def risk_doubles() -> Values:
    """Generate numeric attributes as doubles: NaN and infinity count as missing."""
    return st.one_of(st.floats(), st.none()).map(lambda number: Value(number, ACCEPTED))


def risk_floats() -> Values:
    """Generate numeric attributes in single precision."""
    return st.floats(width=32).map(lambda number: Value(_single(number), ACCEPTED))


def _single(number: float) -> float:
    return float(struct.unpack("f", struct.pack("f", number))[0])


def flags_text() -> Values:
    """Generate labels: an unreadable one is quarantined, its transaction is not."""
    flags = (
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
    known = st.sampled_from(flags).map(lambda text: Value(text, ACCEPTED))
    return st.one_of(known, known, invalid_utf8(), st.just(Value(None, ACCEPTED)))


def passing(some: st.SearchStrategy[Any]) -> Values:
    """Generate values that no rule may refuse."""
    return some.map(lambda content: Value(content, ACCEPTED))
