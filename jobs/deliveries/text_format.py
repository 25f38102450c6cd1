"""The section `[format]` of a mapping: how a delivery writes texts, numbers and times.

    [format]
    delimiter = ";"
    decimal = ","
    thousands = "."
    encoding = "latin-1"
    times = "dd.MM.yyyy HH:mm:ss"

`delimiter` and `encoding` are for CSV. The others are for every text column, whatever the format
of the delivery; `epoch_s` and `epoch_ms` are for columns of numbers too.
"""

from __future__ import annotations

import codecs
import re
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from jobs.deliveries.mapping_section import Section

# Units of a number of seconds or milliseconds since 1970-01-01 00:00:00 UTC.
EPOCHS = {"epoch_s": 1_000_000, "epoch_ms": 1_000}

_DELIMITERS = r"[^\w\s\"'\\.+\-]|\t"
_THOUSANDS = (".", ",", "'", "\N{RIGHT SINGLE QUOTATION MARK}", " ", "_")
_DATE_LETTERS, _HOUR_LETTERS, _ZONE_LETTERS = "yMLdDEQq", "HhKk", "XxZzVO"
_LETTERS = _DATE_LETTERS + _HOUR_LETTERS + "amsSG" + _ZONE_LETTERS
# Text in single quotes stands for itself.
_QUOTED = re.compile(r"'[^']*'")


class TextFormat(Section):
    """How texts, numbers and times are written; the defaults are UTF-8, `12.30` and ISO 8601."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    decimal: Annotated[str, Field(pattern=r"^[.,]$")] = "."
    """Sign before the decimals of a number."""
    thousands: str | None = None
    """Sign between groups of three digits; unset: there is none."""
    encoding: str = "utf-8"
    """Name of the encoding as Python spells it; byte order marks are understood."""
    times: str = "iso"
    """A pattern such as `dd.MM.yyyy HH:mm:ss`, `epoch_s`, `epoch_ms`, or `iso` (ISO 8601)."""

    @field_validator("delimiter")
    @classmethod
    def _delimiter_cannot_be_part_of_a_value(cls, delimiter: str) -> str:
        if not re.fullmatch(_DELIMITERS, delimiter):
            raise ValueError(f'{delimiter!r} cannot separate columns; use ",", ";", "|" or "\\t"')
        return delimiter

    @field_validator("thousands")
    @classmethod
    def _thousands_is_a_separator(cls, thousands: str | None) -> str | None:
        if thousands is not None and thousands not in _THOUSANDS:
            allowed = " ".join(map(repr, _THOUSANDS))
            raise ValueError(f"{thousands!r} cannot group digits; use one of {allowed}")
        return thousands

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, encoding: str) -> str:
        try:
            "a".encode(encoding)
        except LookupError:
            raise ValueError(
                f"{encoding!r} is not an encoding; use utf-8, utf-16, latin-1 or cp1252"
            ) from None
        return encoding

    @field_validator("times")
    @classmethod
    def _times_are_a_pattern(cls, times: str) -> str:
        errors = [] if times in ("iso", *EPOCHS) else _pattern_errors(times)
        if errors:
            raise ValueError(f"{times!r} is not a pattern of a time: {'; '.join(errors)}")
        return times

    @model_validator(mode="after")
    def _decimal_is_not_thousands(self) -> TextFormat:
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")
        return self

    @property
    def java_encoding(self) -> str:
        """Return the name under which Java knows the encoding."""
        # Python calls latin-1 `iso8859-1` and UTF-8 with a byte order mark `utf-8-sig`.
        name = codecs.lookup(self.encoding).name.removesuffix("-sig")
        return name.replace("iso8859", "iso-8859").replace("_", "-")

    @property
    def epoch_unit_micros(self) -> int | None:
        """Return the microseconds of one unit of `epoch_s` or `epoch_ms`; else None."""
        return EPOCHS.get(self.times)

    @property
    def time_pattern(self) -> str | None:
        """Return the pattern of times; None for ISO 8601 and epochs."""
        return None if self.times in ("iso", *EPOCHS) else self.times

    @property
    def date_pattern(self) -> str | None:
        """Return the part of the pattern that is the date.

        >>> TextFormat(times="dd.MM.yyyy HH:mm").date_pattern
        'dd.MM.yyyy'
        """
        if self.time_pattern is None:
            return None
        without_text = _QUOTED.sub(lambda text: " " * len(text[0]), self.time_pattern)
        places = [at for at, letter in enumerate(without_text) if letter in _DATE_LETTERS]
        return self.time_pattern[places[0] : places[-1] + 1]

    @property
    def has_hours(self) -> bool:
        """Return whether times written like this can have a time of day."""
        return self.time_pattern is None or _has(self.time_pattern, _HOUR_LETTERS)

    @property
    def has_zone(self) -> bool:
        """Return whether the pattern contains the zone of the time."""
        return self.time_pattern is not None and _has(self.time_pattern, _ZONE_LETTERS)


def _has(pattern: str, letters: str) -> bool:
    return any(letter in letters for letter in _QUOTED.sub("", pattern))


def _pattern_errors(pattern: str) -> list[str]:
    """Return what is wrong with a pattern: Spark's letters, and a whole date."""
    letters = {letter for letter in _QUOTED.sub("", pattern) if letter.isalpha()}
    errors = [] if pattern.count("'") % 2 == 0 else ["a quote is not closed"]
    unknown = sorted(letters - set(_LETTERS))
    if unknown:
        errors.append(f"{', '.join(unknown)} stands for nothing (in capitals or not)")
    if "y" not in letters:
        errors.append("no year (yyyy)")
    if not letters & set("ML") and "D" not in letters:
        errors.append("no month (MM)")
    if not letters & set("dD"):
        errors.append("no day (dd)")
    if letters & set("hK") and "a" not in letters:
        errors.append("hours of twelve (hh) need a for AM and PM; use HH")
    if letters & set("mS") and not letters & set(_HOUR_LETTERS):
        errors.append("minutes (mm) without hours (HH); the month is MM")
    return errors
