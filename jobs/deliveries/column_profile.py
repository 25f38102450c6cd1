"""What the values of a source column look like: times, numbers, flags, ids, categories."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

# Patterns of times, as a mapping writes them and as Python does. The order is that of preference.
TIME_PATTERNS = {
    "dd.MM.yyyy HH:mm:ss": "%d.%m.%Y %H:%M:%S",
    "dd.MM.yyyy HH:mm": "%d.%m.%Y %H:%M",
    "dd.MM.yyyy": "%d.%m.%Y",
    "dd/MM/yyyy HH:mm:ss": "%d/%m/%Y %H:%M:%S",
    "dd/MM/yyyy HH:mm": "%d/%m/%Y %H:%M",
    "dd/MM/yyyy": "%d/%m/%Y",
    "MM/dd/yyyy HH:mm:ss": "%m/%d/%Y %H:%M:%S",
    "MM/dd/yyyy HH:mm": "%m/%d/%Y %H:%M",
    "MM/dd/yyyy": "%m/%d/%Y",
    "M/d/yyyy h:mm:ss a": "%m/%d/%Y %I:%M:%S %p",
    "M/d/yyyy h:mm a": "%m/%d/%Y %I:%M %p",
    "dd-MM-yyyy HH:mm:ss": "%d-%m-%Y %H:%M:%S",
    "dd-MM-yyyy HH:mm": "%d-%m-%Y %H:%M",
    "dd-MM-yyyy": "%d-%m-%Y",
    "yyyy/MM/dd HH:mm:ss": "%Y/%m/%d %H:%M:%S",
    "yyyy/MM/dd": "%Y/%m/%d",
    "yyyyMMddHHmmss": "%Y%m%d%H%M%S",
    "yyyyMMdd HHmmss": "%Y%m%d %H%M%S",
    "yyyyMMdd": "%Y%m%d",
}
# Notations of numbers: decimals and groups of digits.
NUMBERS = {
    (".", None): r"[0-9]+([.][0-9]+)?",
    (",", None): r"[0-9]+(,[0-9]+)?",
    (".", ","): r"[0-9]{1,3}(,[0-9]{3})*([.][0-9]+)?",
    (",", "."): r"[0-9]{1,3}([.][0-9]{3})*(,[0-9]+)?",
    (",", " "): r"[0-9]{1,3}([ \u00a0\u202f][0-9]{3})*(,[0-9]+)?",
    (".", "'"): r"[0-9]{1,3}('[0-9]{3})*([.][0-9]+)?",
}
Notation = tuple[str, str | None]
_SIGNS = r"[^0-9()+\-]{0,4}"
_ISO = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?")
# Seconds and milliseconds since 1970 of the years 2001 to 2286.
_EPOCHS = {"epoch_s": r"\d{10}([.]\d+)?", "epoch_ms": r"\d{13}"}
# Values that are looked at to tell a notation.
_TRIED = 1_000


@dataclass(frozen=True)
class ColumnProfile:
    """What a column looks like in a sample."""

    name: str
    type: str
    values: tuple[str, ...]
    """The values that are not missing."""
    num_rows: int

    @property
    def empty_share(self) -> float:
        """Return the share of rows without a value."""
        return 1 - len(self.values) / self.num_rows if self.num_rows else 1.0

    @cached_property
    def counts(self) -> Counter[str]:
        """Return how often each value occurs."""
        return Counter(self.values)

    @property
    def is_unique(self) -> bool:
        """Return whether every row has a value of its own."""
        return bool(self.values) and len(self.counts) == self.num_rows

    @property
    def is_time(self) -> bool:
        """Return whether the file declares the column as a time."""
        return self.type.startswith("timestamp")

    @property
    def is_number_type(self) -> bool:
        """Return whether the file declares the column as a number."""
        return self.type.startswith(("int", "uint", "float", "double", "decimal"))

    @cached_property
    def time_notations(self) -> list[str]:
        """Return how all values can be read as times: `iso`, epochs, or patterns."""
        tried = [value.strip() for value in self.values[:_TRIED]]
        if not tried:
            return []
        if self.is_time or self.type.startswith("date"):
            return ["iso"]
        if all(map(_ISO.fullmatch, tried)):
            return ["iso"]
        found = [
            _without_padding(pattern, tried)
            for pattern, python in TIME_PATTERNS.items()
            if _all_parse(tried, python)
        ]
        epochs = [name for name, text in _EPOCHS.items() if _all_match(tried, text)]
        return found or epochs

    @cached_property
    def number_notations(self) -> list[Notation]:
        """Return the notations in which all values are numbers, the simplest first."""
        tried = [value.strip() for value in self.values[:_TRIED]]
        if not tried:
            return []
        return [n for n, text in NUMBERS.items() if _all_match(tried, signed(text))]

    @property
    def has_decimals(self) -> bool:
        """Return whether a value is a number that is not whole."""
        if self.type.startswith(("float", "double", "decimal")):
            return True
        return bool(self.number_notations) and any(re.search(r"[.,]\d", v) for v in self.values)

    @property
    def has_negatives(self) -> bool:
        """Return whether a value is a negative number."""
        return any(re.search(r"^\s*[-(\u2212]|-\s*$", value) for value in self.values)


def signed(number: str) -> str:
    """Return the expression of a number with a sign, brackets, or the sign of a currency."""
    return rf"{_SIGNS}[(+\-\u2212]?{_SIGNS}{number}\)?{_SIGNS}[+\-]?"


def _without_padding(pattern: str, values: Sequence[str]) -> str:
    """Return the pattern with `d.M` for `dd.MM` and `H` for `HH` where a value has one digit."""
    if any(re.search(r"^\d[./-]|[./-]\d[./-]", value) for value in values):
        pattern = pattern.replace("dd", "d").replace("MM", "M")
    return pattern.replace("HH", "H") if any(re.search(r" \d:", v) for v in values) else pattern


def _all_match(values: Sequence[str], expression: str) -> bool:
    return all(map(re.compile(expression).fullmatch, values))


def _all_parse(values: Sequence[str], pattern: str) -> bool:
    def parses(value: str) -> bool:
        try:
            return datetime.strptime(value, pattern).year > 1900
        except ValueError:
            return False

    return all(map(parses, values))
