"""Parse source values with pure column functions that never abort the job.

Spark 4 raises on an invalid cast, so every cast here is a `try_cast`. A value that becomes null
is quarantined with a reason code (`jobs/quality/rows/rules.py`). Text is matched against a
pattern first: Spark alone would read `12:30` as a time of today, and `1e-999999999` would keep it
busy for hours.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_defs.sources import MONEY
from jobs.deliveries.source import RAW

MAX_AMOUNT = 10_000_000_000
# Times outside this range are not accepted: they are placeholders or errors.
FIRST_TIME, LAST_TIME = "1900-01-01 00:00:00", "9999-12-30 00:00:00"

_NOT_BLANK = r"[^\s\p{Z}]"
_DATE = r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_DATE_AND_TIME = _DATE + r"([T ].*)?$"
# After the date and the T, a letter or a sign can only start a time zone.
_WITH_ZONE = _DATE + r"[T ][^A-Za-z+\-]*[A-Za-z+\-]"
_NUMBER = r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$"
# Short enough to convert to a decimal quickly.
_PLAIN_NUMBER = r"^[+-]?([0-9]{1,40}[.]?[0-9]{0,40}|[.][0-9]{1,40})([eE][+-]?[0-9]{1,2})?$"
_NOT_FINITE = r"^[+-]?(nan|inf|infinity)$"


@dataclass(frozen=True)
class ParsedTime:
    """Columns of a parsed time."""

    value: Column
    """Timestamp (UTC); null if it cannot be parsed."""
    is_present: Column
    """Whether the source has a value."""
    local_time_exists: Column
    """False for a local time that daylight saving skipped."""


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


def raw_column(name: str) -> Column:
    """Return a source column; `RAW` is the struct of all of them."""
    return F.col(RAW).getField(name)


def is_present(value: Column, type_: T.DataType) -> Column:
    """Return whether the source has a value: neither null nor text of white space only."""
    if isinstance(type_, T.StringType):
        return F.coalesce(value.rlike(_NOT_BLANK), F.lit(False))
    return value.isNotNull()


def parse_id(value: Column, type_: T.DataType) -> Column:
    """Return an id as text; null if the source has none."""
    return F.when(is_present(value, type_), value.cast("string"))


def parse_time(value: Column, type_: T.DataType, zone: str) -> ParsedTime:
    """Parse a time; a time without a zone is a local time of `zone`.

    An ambiguous local time (clocks set back) becomes the first of the two. A local time that
    daylight saving skipped (clocks set forward) has `local_time_exists` false, and its value is
    the time that the clocks showed instead.
    """
    present = is_present(value, type_)
    if isinstance(type_, T.TimestampType):
        return ParsedTime(_in_range(value), present, F.lit(True))
    if isinstance(type_, T.TimestampNTZType):
        local, absolute = value, F.lit(None).cast("timestamp")
    else:
        text = F.trim(value)
        zoned = text.rlike(_WITH_ZONE)
        local = F.when(text.rlike(_DATE_AND_TIME) & ~zoned, text.try_cast("timestamp_ntz"))
        absolute = F.when(zoned, text.try_cast("timestamp"))
    # The time zone of the Spark session is UTC, so this cast does not shift the time.
    clock = _in_range(local.cast("timestamp"))
    if zone == "UTC":
        return ParsedTime(F.coalesce(clock, _in_range(absolute)), present, F.lit(True))
    utc = F.to_utc_timestamp(clock, zone)
    exists = F.coalesce(F.from_utc_timestamp(utc, zone) == clock, F.lit(True))
    return ParsedTime(F.coalesce(utc, _in_range(absolute)), present, exists)


def _in_range(value: Column) -> Column:
    first, last = F.lit(FIRST_TIME).cast("timestamp"), F.lit(LAST_TIME).cast("timestamp")
    return F.when(value.between(first, last), value)


def parse_date(value: Column, type_: T.DataType) -> Column:
    """Parse a date; null if it cannot be parsed."""
    if isinstance(type_, T.StringType):
        text = F.trim(value)
        return F.when(text.rlike(_DATE_AND_TIME), text.try_cast("date"))
    return value.cast("date")


def parse_amount(value: Column, type_: T.DataType) -> ParsedAmount:
    """Parse an amount; null if it cannot be parsed or its size is above `MAX_AMOUNT`."""
    present = is_present(value, type_)
    if isinstance(type_, T.StringType):
        text = F.trim(value)
        is_number = text.rlike(_NUMBER)
        is_finite = ~F.lower(text).rlike(_NOT_FINITE)
        parsed = F.when(text.rlike(_PLAIN_NUMBER), text.try_cast(MONEY))
    else:
        is_number = F.lit(True)
        is_finite = _is_finite(value, type_)
        parsed = F.when(is_finite, value.try_cast(MONEY))
    in_range = F.when(F.abs(parsed) <= MAX_AMOUNT, parsed)
    return ParsedAmount(in_range, present, is_number, is_finite)


def _is_finite(value: Column, type_: T.DataType) -> Column:
    if isinstance(type_, T.DoubleType | T.FloatType):
        return ~F.isnan(value) & (F.abs(value) < F.lit(float("inf")))
    return F.lit(True)


def parse_number(value: Column, type_: T.DataType) -> Column:
    """Parse a numeric attribute as double; null if it cannot be parsed, is NaN or infinite."""
    if isinstance(type_, T.StringType):
        text = F.trim(value)
        parsed = F.when(text.rlike(_NUMBER) & (F.length(text) <= 100), text.try_cast("double"))
    else:
        parsed = value.cast("double")
    return F.when(_is_finite(parsed, T.DoubleType()), parsed)


def parse_flag(value: Column, type_: T.DataType) -> Column:
    """Parse a yes or no: a boolean, 0 or 1, or a word that Spark casts; null otherwise."""
    if isinstance(type_, T.BooleanType):
        return value
    if isinstance(type_, T.StringType):
        text = F.trim(value)
        word = text.try_cast("boolean")
        number = parse_number(value, type_)
        return F.coalesce(word, F.when(number.isin(0.0, 1.0), number == 1.0))
    return F.when(value.isin(0, 1), value == 1)


def is_card_number(text: Column) -> Column:
    """Return whether a text is 13 to 19 digits with a valid Luhn check digit.

    Characters that are neither letters nor digits are ignored.
    """
    digits = F.regexp_replace(text, r"[^\p{L}\p{Nd}]", "")
    has_length = digits.rlike("^[0-9]{13,19}$")
    return F.coalesce(has_length & F.call_function("luhn_check", digits), F.lit(False))
