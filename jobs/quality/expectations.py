"""The forms that expectations take: nothing of a kind, a least or greatest value, a steady factor.

Each looks at facts that `jobs/quality/row_counts.py` has counted; the bound is the expectation's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from statistics import median
from typing import Any

import great_expectations.expectations as gxe

from jobs.lake.tables import Table
from jobs.quality.gate import Expectation, Kind

MIN_HISTORY_NIGHTS = 7
MAX_HISTORY_NIGHTS = 28
UNDECIDED = f"fewer than {MIN_HISTORY_NIGHTS} earlier nights, or no rows"
# By so much two nights differ by chance, in standard deviations of a count.
CHANCE_DEVIATIONS = 3.0


def none_of(fact: str, name: str, sentence: str, kind: Kind, words: str = "") -> Expectation:
    """The fact is a count of what must not be."""
    rule = gxe.ExpectColumnValuesToBeBetween(column=fact, min_value=0, max_value=0)
    return Expectation(name, sentence, rule, words or f"{{{fact}}} rows", kind=kind)


def same_columns(table_name: str) -> Expectation:
    """Over facts of columns: those declared are there with their types, and no others."""
    rule = gxe.ExpectColumnPairValuesToBeEqual(column_A="declared", column_B="found")
    return Expectation(
        "schema",
        f"The columns are those that `{table_name}` declares, with their types.",
        rule,
        "found {found}, declared {declared}",
        kind="schema",
    )


def given(table: Table) -> list[Expectation]:
    """No null in a column that the table declares to have none."""
    return [
        none_of(
            f"{column.name}_missing",
            f"{column.name}_given",
            f"Every row has its {column.name}.",
            "schema",
            f"{{{column.name}_missing}} rows without",
        )
        for column in table.columns
        if not column.nullable
    ]


def required(table: Table) -> list[str]:
    """The columns that `given` looks at."""
    return [column.name for column in table.columns if not column.nullable]


def at_least(column: str, low: float) -> Expectation:
    """No value lies below."""
    fact = f"{column}_min"
    rule = gxe.ExpectColumnValuesToBeBetween(column=fact, min_value=low)
    sentence = f"{column} is at least {low:,g}."
    return Expectation(
        f"{column}_at_least", sentence, rule, f"the least is {{{fact}}}", unknown="holds"
    )


def at_most(column: str, high: float) -> Expectation:
    """No value lies above, or is no number."""
    fact = f"{column}_max"
    rule = gxe.ExpectColumnValuesToBeBetween(column=fact, max_value=high)
    sentence = f"{column} is at most {high:,g}, and a number."
    return Expectation(
        f"{column}_at_most", sentence, rule, f"the greatest is {{{fact}}}", unknown="holds"
    )


def steady(fact: str, name: str, sentence: str, factor: float, words: str) -> Expectation:
    """A night's factor to the nights before it; without enough of them there is no verdict."""
    rule = gxe.ExpectColumnValuesToBeBetween(column=fact, min_value=1 / factor, max_value=factor)
    return Expectation(
        name, sentence, rule, words, kind="volume", unknown="undecided", undecided=UNDECIDED
    )


def factor_to_usual(count: int, earlier: Iterable[int]) -> tuple[float | None, float | None]:
    """How many times the usual a count is, and the usual: the median of up to 28 nights.

    A difference that chance explains counts as none, or a bank of few cards would never be steady.

    >>> factor_to_usual(50, [100] * 7)
    (0.5, 100.0)
    >>> factor_to_usual(3, [1, 2, 1, 2, 1, 2, 1])
    (1.0, 1.0)
    >>> factor_to_usual(3, [3] * 6)
    (None, None)
    """
    counts = list(earlier)[-MAX_HISTORY_NIGHTS:]
    if len(counts) < MIN_HISTORY_NIGHTS:
        return None, None
    usual = float(median(counts))
    if abs(count - usual) <= CHANCE_DEVIATIONS * math.sqrt(usual):
        return 1.0, usual
    return (count / usual if usual else math.inf), usual


def factors(counts: Mapping[date, int], history: Mapping[date, int]) -> dict[date, dict[str, Any]]:
    """Each night's factor to the nights before it, those of the same run included."""
    known = dict(history)
    found = {}
    for day in sorted(counts):
        earlier = [known[other] for other in sorted(known) if other < day]
        factor, usual = factor_to_usual(counts[day], earlier)
        found[day] = {"factor": factor, "usual": usual}
        known[day] = counts[day]
    return found


def warning(expectation: Expectation) -> Expectation:
    """The same, but it stops nothing."""
    return replace(expectation, severity="warn")
