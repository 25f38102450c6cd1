"""Parse times and dates with pure column functions that never abort the job.

Text is matched against a pattern first: Spark alone would read `12:30` as a time of today.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.deliveries.mapping import Mapping
from jobs.deliveries.text_format import TextFormat
from jobs.quality.rows.parsing import is_present, trimmed

# Times outside this range are not accepted: they are placeholders or errors.
FIRST_TIME, LAST_TIME = "1900-01-01 00:00:00", "9999-12-30 00:00:00"

_DATE = r"^[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_DATE_AND_TIME = _DATE + r"([T ].*)?$"
# After the date and the T, a letter or a sign can only start a time zone.
_WITH_ZONE = _DATE + r"[T ][^A-Za-z+\-]*[A-Za-z+\-]"
_UNIX = r"^-?[0-9]{1,15}([.][0-9]{0,9})?$"
# Enough digits for microseconds of the years 1900 to 9999.
_EPOCH = "decimal(30,9)"


@dataclass(frozen=True)
class ParsedTime:
    """Columns of a parsed time."""

    value: Column
    """Timestamp (UTC); null if it cannot be parsed."""
    is_present: Column
    """Whether the source has a value."""
    local_time_exists: Column
    """False for a local time that daylight saving skipped."""
    has_time_of_day: Column
    """False for a date alone; its value is the start of the day."""


def parse_time(value: Column, type_: T.DataType, mapping: Mapping) -> ParsedTime:
    """Parse a time; a time without a zone is a local time of the mapping's zone.

    An ambiguous local time (clocks set back) becomes the first of the two. A local time that
    daylight saving skipped (clocks set forward) has `local_time_exists` false, and its value is
    the time that the clocks showed instead.
    """
    present, always = is_present(value, type_), F.lit(True)
    if isinstance(type_, T.TimestampType):
        return ParsedTime(_in_range(value), present, always, always)
    unit = mapping.format.epoch_unit_micros
    if unit is not None and not isinstance(type_, T.TimestampNTZType | T.DateType):
        return ParsedTime(_in_range(_since_epoch(value, type_, unit)), present, always, always)
    local, absolute, has_time = _local_and_absolute(value, type_, mapping.format)
    # The time zone of the Spark session is UTC, so this cast does not shift the time.
    clock = _in_range(local.cast("timestamp"))
    if mapping.zone == "UTC":
        return ParsedTime(F.coalesce(clock, _in_range(absolute)), present, always, has_time)
    utc = F.to_utc_timestamp(clock, mapping.zone)
    exists = F.coalesce(F.from_utc_timestamp(utc, mapping.zone) == clock, always)
    return ParsedTime(F.coalesce(utc, _in_range(absolute)), present, exists, has_time)


def _local_and_absolute(
    value: Column, type_: T.DataType, written: TextFormat
) -> tuple[Column, Column, Column]:
    """Return a time without zone, one with zone (one of the two is null), and `has_time_of_day`."""
    nothing, always = F.lit(None).cast("timestamp"), F.lit(True)
    if isinstance(type_, T.TimestampNTZType):
        return value, nothing, always
    if isinstance(type_, T.DateType):
        return value.cast("timestamp_ntz"), nothing, F.lit(False)
    text = trimmed(value)
    if written.time_pattern is not None:
        time = F.try_to_timestamp(text, F.lit(written.time_pattern))
        has_time = F.lit(written.has_hours)
        return (nothing, time, has_time) if written.has_zone else (time, nothing, has_time)
    zoned = text.rlike(_WITH_ZONE)
    local = F.when(text.rlike(_DATE_AND_TIME) & ~zoned, text.try_cast("timestamp_ntz"))
    has_time = ~F.coalesce(text.rlike(_DATE + "$"), F.lit(False))
    return local, F.when(zoned, text.try_cast("timestamp")), has_time


def _since_epoch(value: Column, type_: T.DataType, unit_micros: int) -> Column:
    """Return the time of a number of seconds or milliseconds; digits below 1 µs are cut off."""
    if isinstance(type_, T.StringType):
        text = trimmed(value)
        number = F.when(text.rlike(_UNIX), text.try_cast(_EPOCH))
    else:
        number = value.try_cast(_EPOCH)
    return F.timestamp_micros(F.floor(number * unit_micros).try_cast("bigint"))


def _in_range(value: Column) -> Column:
    first, last = F.lit(FIRST_TIME).cast("timestamp"), F.lit(LAST_TIME).cast("timestamp")
    return F.when(value.between(first, last), value)


def parse_date(value: Column, type_: T.DataType, written: TextFormat) -> Column:
    """Parse a date; null if it cannot be parsed.

    Where times have a pattern, text is a date or a time of this pattern. ISO 8601 is understood
    too, unless the pattern looks alike and could mean another date.
    """
    if not isinstance(type_, T.StringType):
        return value.cast("date")
    text = trimmed(value)
    iso = F.when(text.rlike(_DATE_AND_TIME), text.try_cast("date"))
    if written.date_pattern is None or written.time_pattern is None:
        return iso
    by_pattern = [
        F.try_to_timestamp(text, F.lit(pattern)).cast("date")
        for pattern in (written.date_pattern, written.time_pattern)
    ]
    like_iso = written.date_pattern.startswith("y") and "-" in written.date_pattern
    return F.coalesce(*by_pattern, *([] if like_iso else [iso]))
