"""Reading values without ever aborting: pure column functions.

Spark 4 raises on a bad cast, so every value is tried, and what is null afterwards but was not
before is refused by name (`jobs/quality/rows/rules.py`). Texts are checked against a pattern first:
Spark alone would read `12:30` as a time of today, and `1e-999999999` would keep it busy for hours.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_defs.sources import MONEY

MAX_AMOUNT = 10_000_000_000
# Times outside these years are not read: they are fillers or mistakes.
FIRST_TIME, LAST_TIME = "1900-01-01 00:00:00", "9999-12-30 00:00:00"

_NOT_BLANK = r"[^\s\p{Z}]"
_DATE = r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_DATE_AND_TIME = _DATE + r"([T ].*)?$"
# After the date and the T, a letter or a sign can only begin a zone.
_WITH_ZONE = _DATE + r"[T ][^A-Za-z+\-]*[A-Za-z+\-]"
_NUMBER = r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$"
# Short enough to be turned into a decimal at no cost.
_PLAIN_NUMBER = r"^[+-]?([0-9]{1,40}[.]?[0-9]{0,40}|[.][0-9]{1,40})([eE][+-]?[0-9]{1,2})?$"
_NOT_FINITE = r"^[+-]?(nan|inf|infinity)$"


@dataclass(frozen=True)
class Time:
    """A moment (UTC), whether the source gave anything, and whether that local time existed."""

    value: Column
    given: Column
    exists: Column


@dataclass(frozen=True)
class Amount:
    """An amount rounded half up to our scale; the flags say what is wrong where it is null."""

    value: Column
    given: Column
    is_number: Column
    is_finite: Column


def raw_column(name: str) -> Column:
    """A column of the source, which all stand in the struct `raw`."""
    return F.col("raw").getField(name)


def given(value: Column, type_: T.DataType) -> Column:
    """Whether a source value is there: neither null nor a text of blanks of any kind."""
    if isinstance(type_, T.StringType):
        return F.coalesce(value.rlike(_NOT_BLANK), F.lit(False))
    return value.isNotNull()


def identifier(value: Column, type_: T.DataType) -> Column:
    """An id as text; null where the source gave none."""
    return F.when(given(value, type_), value.cast("string"))


def moment(value: Column, type_: T.DataType, zone: str) -> Time:
    """A moment; times without a zone are local times of `zone`.

    An ambiguous local time (clocks set back) is the first of the two; one that never was
    (clocks set forward) has `exists` false and the moment that the clocks showed instead.
    """
    there = given(value, type_)
    if isinstance(type_, T.TimestampType):
        return Time(_in_years(value), there, F.lit(True))
    if isinstance(type_, T.TimestampNTZType):
        local, absolute = value, F.lit(None).cast("timestamp")
    else:
        text = F.trim(value)
        zoned = text.rlike(_WITH_ZONE)
        local = F.when(text.rlike(_DATE_AND_TIME) & ~zoned, text.try_cast("timestamp_ntz"))
        absolute = F.when(zoned, text.try_cast("timestamp"))
    # The session's zone is UTC, so this cast moves nothing.
    clock = _in_years(local.cast("timestamp"))
    if zone == "UTC":
        return Time(F.coalesce(clock, _in_years(absolute)), there, F.lit(True))
    known = F.to_utc_timestamp(clock, zone)
    exists = F.coalesce(F.from_utc_timestamp(known, zone) == clock, F.lit(True))
    return Time(F.coalesce(known, _in_years(absolute)), there, exists)


def _in_years(value: Column) -> Column:
    first, last = F.lit(FIRST_TIME).cast("timestamp"), F.lit(LAST_TIME).cast("timestamp")
    return F.when(value.between(first, last), value)


def day(value: Column, type_: T.DataType) -> Column:
    """A date; null where there is none to read."""
    if isinstance(type_, T.StringType):
        text = F.trim(value)
        return F.when(text.rlike(_DATE_AND_TIME), text.try_cast("date"))
    return value.cast("date")


def amount(value: Column, type_: T.DataType) -> Amount:
    """An amount; beyond `MAX_AMOUNT` or unreadable it is null."""
    there = given(value, type_)
    if isinstance(type_, T.StringType):
        text = F.trim(value)
        number = text.rlike(_NUMBER)
        finite = ~F.lower(text).rlike(_NOT_FINITE)
        read = F.when(text.rlike(_PLAIN_NUMBER), text.try_cast(MONEY))
    else:
        number = F.lit(True)
        finite = _is_finite(value, type_)
        read = F.when(finite, value.try_cast(MONEY))
    return Amount(F.when(F.abs(read) <= MAX_AMOUNT, read), there, number, finite)


def _is_finite(value: Column, type_: T.DataType) -> Column:
    if isinstance(type_, T.DoubleType | T.FloatType):
        return ~F.isnan(value) & (F.abs(value) < F.lit(float("inf")))
    return F.lit(True)


def number(value: Column, type_: T.DataType) -> Column:
    """A numeric attribute as double, never NaN or infinite; null where it cannot be read."""
    if isinstance(type_, T.StringType):
        text = F.trim(value)
        read = F.when(text.rlike(_NUMBER) & (F.length(text) <= 100), text.try_cast("double"))
    else:
        read = value.cast("double")
    return F.when(_is_finite(read, T.DoubleType()), read)


def flag(value: Column, type_: T.DataType) -> Column:
    """A yes or no: booleans, 0 and 1, and the usual words; null where it cannot be read."""
    if isinstance(type_, T.BooleanType):
        return value
    if isinstance(type_, T.StringType):
        text = F.trim(value)
        word = text.try_cast("boolean")
        read = number(value, type_)
        return F.coalesce(word, F.when(read.isin(0.0, 1.0), read == 1.0))
    return F.when(value.isin(0, 1), value == 1)


def is_card_number(text: Column) -> Column:
    """Whether a text is 13 to 19 digits with a valid Luhn digit, aside from what is no letter."""
    digits = F.regexp_replace(text, r"[^\p{L}\p{Nd}]", "")
    looks = digits.rlike("^[0-9]{13,19}$")
    return F.coalesce(looks & F.call_function("luhn_check", digits), F.lit(False))
