"""Gate 1: is a delivery complete, and do its accepted rows fit the declared tables?

There is one row of facts per night. The counts are independent of each other: rows read are
counted in the source, accepted and quarantined rows in what was staged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import great_expectations.expectations as gxe
from pyspark.sql import DataFrame

from feature_defs.sources import TRANSACTIONS as SOURCE
from jobs.lake.dates import Dates
from jobs.lake.tables import TRANSACTIONS
from jobs.quality.delivery_counts import NightCounts
from jobs.quality.expectations import (
    as_warning,
    at_least,
    at_most,
    factors_to_median,
    must_be_zero,
    not_null,
    required_columns,
    schema_equals,
    within_factor_of_median,
)
from jobs.quality.gate import Expectation, GateResult, validate
from jobs.quality.overrides import GATES
from jobs.quality.row_counts import (
    NightFacts,
    Profile,
    column_facts,
    count_duplicates,
    rows_of_facts,
)
from jobs.quality.rows.numbers import MAX_AMOUNT
from jobs.quality.suites import labels

GATE = GATES["ingest"]
# Half or twice the median number of rows warns; a fifth or five times the median stops the night.
ODD_VOLUME, WRONG_VOLUME = 2.0, 5.0


def expectations(
    max_quarantined_share: float = 0.2, *, allow_empty: bool = False
) -> list[Expectation]:
    """Return the expectations on facts per night."""
    return [
        *_conservation(allow_empty=allow_empty),
        Expectation(
            "quarantined_share",
            f"At most {max_quarantined_share:.0%} of a night's rows are quarantined.",
            gxe.ExpectColumnValuesToBeBetween(
                column="quarantined_share", max_value=max_quarantined_share
            ),
            "{rows_quarantined} of {rows_read} rows ({quarantined_share:.0%})",
        ),
        must_be_zero(
            "duplicates",
            "keys_unique",
            "Transaction ids are unique.",
            "conservation",
            "{duplicates} duplicate rows",
        ),
        *not_null(TRANSACTIONS),
        at_least("amount", -MAX_AMOUNT),
        at_most("amount", MAX_AMOUNT),
        must_be_zero(
            "nights_outside_run",
            "dates_in_range",
            "Every transaction belongs to a night of this run.",
            "conservation",
            "nights outside this run: {nights_outside_run}",
        ),
        *_volume(),
        as_warning(
            must_be_zero(
                "rows_without_time",
                "times_of_day",
                "Every payment has a time of day; otherwise features of the hour are missing.",
                "range",
                "{rows_without_time} of {rows_accepted} payments have only a date",
            )
        ),
        *labels.expectations(),
    ]


def _conservation(*, allow_empty: bool) -> list[Expectation]:
    checks = [
        must_be_zero(
            "rows_lost",
            "conservation",
            "Every row read is accepted or quarantined.",
            "conservation",
            "{rows_read} read, {rows_accepted} accepted, {rows_quarantined} quarantined",
        ),
        must_be_zero(
            "labels_lost",
            "label_conservation",
            "Every label read is accepted, quarantined, or dropped as an identical duplicate.",
            "conservation",
            "{labels_read} labels read, {labels_accepted} accepted, "
            "{labels_quarantined} quarantined, {labels_dropped} dropped",
        ),
        must_be_zero(
            "multiline_records",
            "no_swallowed_rows",
            "No record spans several lines: it may contain rows that were not read.",
            "conservation",
            "{multiline_records} records, perhaps after an unclosed quote; if fields of this "
            'source really contain line breaks, set line_breaks = "allowed" in the mapping',
        ),
    ]
    if not allow_empty:
        rule = gxe.ExpectColumnValuesToBeBetween(column="rows_read", min_value=1)
        checks.append(Expectation("rows_read", "The night has rows.", rule, "{rows_read} rows"))
    return checks


def _volume() -> list[Expectation]:
    template = "{rows_accepted} rows, median {median:g} before"
    odd = within_factor_of_median(
        "factor",
        "volume",
        "The number of rows is between half and twice the median of the nights before.",
        ODD_VOLUME,
        template,
    )
    wrong = within_factor_of_median(
        "factor",
        "volume_plausible",
        "The number of rows is between a fifth and five times the median of the nights before.",
        WRONG_VOLUME,
        template,
    )
    return [as_warning(odd), wrong]


def compute_facts(transactions: DataFrame) -> list[NightFacts]:
    """Return facts per night of accepted transactions: one pass, and one shuffle of their ids."""
    profile = Profile(("amount",), required_columns(TRANSACTIONS))
    return [
        profile.compute(transactions),
        count_duplicates(transactions, SOURCE.key, "duplicates"),
    ]


def run_checks(
    dates: Dates,
    counts: Sequence[NightCounts],
    facts: Sequence[NightFacts],
    expectations: Sequence[Expectation],
) -> GateResult:
    """Run the gate on facts per night; a failed check names the failing nights."""
    rows = rows_of_facts(dates, (_count_facts(counts), *facts))
    return validate(GATE, expectations, rows, "business_date")


def _count_facts(counts: Sequence[NightCounts]) -> NightFacts:
    by_night = {night.business_date: _facts_of_night(night) for night in counts}
    return NightFacts(by_night, _facts_of_night(NightCounts(date.min)))


def _facts_of_night(night: NightCounts) -> dict[str, Any]:
    counts = asdict(night)
    del counts["business_date"]
    return {
        **counts,
        "quarantined_share": night.quarantined_share,
        "rows_lost": abs(night.rows_read - night.rows_accepted - night.rows_quarantined),
        "labels_lost": abs(
            night.labels_read
            - night.labels_accepted
            - night.labels_quarantined
            - night.labels_dropped
        ),
    }


def volume(counts: Sequence[NightCounts], history: Mapping[date, int]) -> NightFacts:
    """Return each night's accepted rows compared with up to 28 nights before it.

    The factor of a night without rows is missing.
    """
    accepted = {night.business_date: night.rows_accepted for night in counts if night.rows_read}
    return NightFacts(factors_to_median(accepted, history), {"factor": None, "median": None})


def schema_expectations() -> list[Expectation]:
    """Return the expectations on facts per column."""
    return [schema_equals(TRANSACTIONS.name)]


def check_schema(found: Mapping[str, str], declared: Mapping[str, str]) -> GateResult:
    """Check that the columns to publish are those declared; list all differences."""
    return validate(GATE, schema_expectations(), column_facts(found, declared), "column")
