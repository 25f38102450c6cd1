"""Templates of expectations: a zero count, no nulls, a least or greatest value, a steady volume.

Each template checks facts that `jobs/quality/row_counts.py` has computed. The bound belongs to the
expectation.
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
TOO_FEW_NIGHTS = f"fewer than {MIN_HISTORY_NIGHTS} earlier nights, or no rows"
# Two nights can differ by this much by chance, in standard deviations of a Poisson count.
CHANCE_DEVIATIONS = 3.0


def must_be_zero(
    fact: str, name: str, sentence: str, kind: Kind, observed_template: str = ""
) -> Expectation:
    """Expect that a count is zero."""
    rule = gxe.ExpectColumnValuesToBeBetween(column=fact, min_value=0, max_value=0)
    template = observed_template or f"{{{fact}}} rows"
    return Expectation(name, sentence, rule, template, kind=kind)


def schema_equals(table_name: str) -> Expectation:
    """Expect exactly the declared columns, with their types; one row of facts per column."""
    rule = gxe.ExpectColumnPairValuesToBeEqual(column_A="declared", column_B="found")
    return Expectation(
        "schema",
        f"The columns and their types are those that `{table_name}` declares.",
        rule,
        "found {found}, declared {declared}",
        kind="schema",
    )


def not_null(table: Table) -> list[Expectation]:
    """Expect no null in the columns that the table declares as not nullable."""
    return [
        must_be_zero(
            f"{column}_missing",
            f"{column}_given",
            f"{column} is never null.",
            "schema",
            f"{{{column}_missing}} rows without {column}",
        )
        for column in required_columns(table)
    ]


def required_columns(table: Table) -> list[str]:
    """Return the columns that the table declares as not nullable."""
    return [column.name for column in table.columns if not column.nullable]


def at_least(column: str, low: float) -> Expectation:
    """Expect no value below `low`; a night without values passes."""
    fact = f"{column}_min"
    rule = gxe.ExpectColumnValuesToBeBetween(column=fact, min_value=low)
    sentence = f"{column} is at least {low:,g}."
    return Expectation(
        f"{column}_at_least", sentence, rule, f"the minimum is {{{fact}}}", if_missing="pass"
    )


def at_most(column: str, high: float) -> Expectation:
    """Expect no value above `high` and no NaN; a night without values passes."""
    fact = f"{column}_max"
    rule = gxe.ExpectColumnValuesToBeBetween(column=fact, max_value=high)
    sentence = f"{column} is at most {high:,g}, and never NaN."
    return Expectation(
        f"{column}_at_most", sentence, rule, f"the maximum is {{{fact}}}", if_missing="pass"
    )


def within_factor_of_median(
    fact: str, name: str, sentence: str, factor: float, observed_template: str
) -> Expectation:
    """Expect a night's volume within a factor of the median of the nights before it.

    The check is not applicable if there are too few earlier nights.
    """
    rule = gxe.ExpectColumnValuesToBeBetween(column=fact, min_value=1 / factor, max_value=factor)
    return Expectation(
        name,
        sentence,
        rule,
        observed_template,
        kind="volume",
        if_missing="not applicable",
        missing_reason=TOO_FEW_NIGHTS,
    )


def factor_to_median(count: int, earlier: Iterable[int]) -> tuple[float | None, float | None]:
    """Return a count divided by the median of up to 28 earlier nights, and that median.

    The factor is 1 if chance explains the difference. Without this rule the volume of a bank with
    few cards would never be steady. Both values are None if there are too few earlier nights.

    >>> factor_to_median(50, [100] * 7)
    (0.5, 100.0)
    >>> factor_to_median(3, [1, 2, 1, 2, 1, 2, 1])
    (1.0, 1.0)
    >>> factor_to_median(3, [3] * 6)
    (None, None)
    """
    counts = list(earlier)[-MAX_HISTORY_NIGHTS:]
    if len(counts) < MIN_HISTORY_NIGHTS:
        return None, None
    middle = float(median(counts))
    if abs(count - middle) <= CHANCE_DEVIATIONS * math.sqrt(middle):
        return 1.0, middle
    return (count / middle if middle else math.inf), middle


def factors_to_median(
    counts: Mapping[date, int], history: Mapping[date, int]
) -> dict[date, dict[str, Any]]:
    """Return the facts `factor` and `median` of each night.

    The earlier nights of a night include those of the same run.
    """
    all_counts = dict(history)
    facts = {}
    for day in sorted(counts):
        earlier = [all_counts[other] for other in sorted(all_counts) if other < day]
        factor, middle = factor_to_median(counts[day], earlier)
        facts[day] = {"factor": factor, "median": middle}
        all_counts[day] = counts[day]
    return facts


def as_warning(expectation: Expectation) -> Expectation:
    """Return the same expectation with severity `warn`: it cannot stop the night."""
    return replace(expectation, severity="warn")
