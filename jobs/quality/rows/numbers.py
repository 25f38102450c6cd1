"""Parse amounts and other numbers with pure column functions that never abort the job.

Text is first brought into one form, `-1234.50`, if it is well-formed in the notation of the
mapping: `1.234,50`, `12.30-`, `(12.30)` and, in a mapping in euros, `€12.30` or `12.30 EUR`. Then
it is matched against a pattern: `1e-999999999` would keep Spark busy for hours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_defs.sources import MONEY
from jobs.deliveries.text_format import TextFormat
from jobs.quality.rows.parsing import is_present, trimmed

MAX_AMOUNT = 10_000_000_000

_NUMBER = r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$"
# Short enough to convert to a decimal quickly.
_PLAIN_NUMBER = r"^[+-]?([0-9]{1,40}[.]?[0-9]{0,40}|[.][0-9]{1,40})([eE][+-]?[0-9]{1,2})?$"
_NOT_FINITE = r"^[+-]?(nan|inf|infinity)$"
_MINUS = "\N{MINUS SIGN}"
_BLANK = r"[\s\p{Z}]*"
# Signs that mean this currency and, where a mapping declares it, no other.
CURRENCY_SIGNS = {
    **dict.fromkeys(("USD", "CAD", "AUD", "NZD", "SGD", "HKD", "MXN"), "$"),
    "EUR": "€", "GBP": "£", "JPY": "¥", "CNY": "¥", "INR": "₹", "KRW": "₩", "TRY": "₺",
    "UAH": "₴", "ILS": "₪", "PLN": "zł", "CZK": "Kč", "SEK": "kr", "NOK": "kr", "DKK": "kr",
    "CHF": "Fr.", "BRL": "R$",
}  # fmt: skip


@dataclass(frozen=True)
class ParsedAmount:
    """Columns of a parsed amount; the flags explain a null value."""

    value: Column
    """Amount, rounded half up to our scale; null if it cannot be parsed or is out of range."""
    is_present: Column
    """Whether the source has a value."""
    is_number: Column
    """Whether the text is a number; true for numeric types."""
    is_finite: Column
    """Whether the value is neither infinite nor NaN."""


def parse_amount(
    value: Column, type_: T.DataType, written: TextFormat, currency: str | None
) -> ParsedAmount:
    """Parse an amount; null if it cannot be parsed or its size is above `MAX_AMOUNT`.

    Args:
        value: the source column.
        type_: its Spark type.
        written: the notation of the mapping.
        currency: its sign or code may stand before or after the number; None: no sign may.
    """
    present = is_present(value, type_)
    if isinstance(type_, T.StringType):
        text = _plain(trimmed(value), written, currency)
        is_number = text.rlike(_NUMBER)
        is_finite = ~F.lower(text).rlike(_NOT_FINITE)
        parsed = F.when(text.rlike(_PLAIN_NUMBER), text.try_cast(MONEY))
    else:
        is_number = F.lit(True)
        is_finite = _is_finite(value, type_)
        parsed = F.when(is_finite, value.try_cast(MONEY))
    in_range = F.when(F.abs(parsed) <= MAX_AMOUNT, parsed)
    return ParsedAmount(in_range, present, is_number, is_finite)


def parse_number(value: Column, type_: T.DataType, written: TextFormat) -> Column:
    """Parse a numeric attribute as double; null if it cannot be parsed, is NaN or infinite."""
    if isinstance(type_, T.StringType):
        text = _plain(trimmed(value), written, None)
        parsed = F.when(text.rlike(_NUMBER) & (F.length(text) <= 100), text.try_cast("double"))
    else:
        parsed = value.cast("double")
    return F.when(_is_finite(parsed, T.DoubleType()), parsed)


def _is_finite(value: Column, type_: T.DataType) -> Column:
    if isinstance(type_, T.DoubleType | T.FloatType):
        return ~F.isnan(value) & (F.abs(value) < F.lit(float("inf")))
    return F.lit(True)


def _plain(text: Column, written: TextFormat, currency: str | None) -> Column:
    """Return a number as `-1234.50`; a text that is not well-formed stays what no number is."""
    signed = _without_currency(text, currency)
    signed = F.regexp_replace(signed, _MINUS, "-")
    signed = F.regexp_replace(signed, r"^\(([^()+\-]*)\)$", "-$1")
    signed = F.regexp_replace(signed, rf"^([^+\-]*[^+\-\s]){_BLANK}([+-])$", "$2$1")
    number = _with_decimal_point(_without_currency(signed, currency), written)
    if written.decimal != ".":
        return number
    # Most numbers need none of this.
    return F.when(text.rlike(_PLAIN_NUMBER), text).otherwise(number)


def _without_currency(text: Column, currency: str | None) -> Column:
    """Return the text without the sign or code of the currency at its start or its end."""
    if currency is None:
        return text
    names = "|".join(re.escape(n) for n in (currency, CURRENCY_SIGNS.get(currency)) if n)
    at_start = rf"^([+\-{_MINUS}]?){_BLANK}(?:{names}){_BLANK}"
    return F.regexp_replace(text, rf"{at_start}|{_BLANK}(?:{names})$", "$1")


def _with_decimal_point(text: Column, written: TextFormat) -> Column:
    """Return the number with a point before its decimals and without groups of digits."""
    decimal = re.escape(written.decimal)
    if written.thousands is not None:
        group = _BLANK_GROUP if written.thousands == " " else re.escape(written.thousands)
        # Groups of two digits are Indian: 12,34,567.
        grouped = rf"^[+-]?[0-9]{{1,3}}({group}[0-9]{{2,3}})*{group}[0-9]{{3}}({decimal}[0-9]*)?$"
        text = F.when(text.rlike(grouped), F.regexp_replace(text, group, "")).otherwise(text)
    if written.decimal == ".":
        return text
    is_number = text.rlike(rf"^[+-]?([0-9]+{decimal}?[0-9]*|{decimal}[0-9]+)([eE][+-]?[0-9]+)?$")
    pointed = F.regexp_replace(text, decimal, ".")
    # What has a point already is not a number in this notation: `1.5` must not become 1.5.
    return F.when(is_number, pointed).otherwise(F.regexp_replace(text, r"[.]", "?"))


_BLANK_GROUP = "[ \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}]"
