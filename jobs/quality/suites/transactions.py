"""Gate 1: is a delivery whole, and are its accepted rows what the tables declare?

Facts are one row per night, counted apart from each other: rows read in the source, rows
accepted and refused in what was written aside.
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
    at_least,
    at_most,
    factors,
    given,
    none_of,
    required,
    same_columns,
    steady,
    warning,
)
from jobs.quality.gate import Expectation, GateResult, validate
from jobs.quality.overrides import GATES
from jobs.quality.row_counts import Counted, Profile, columns, copies, nights
from jobs.quality.rows.parsing import MAX_AMOUNT
from jobs.quality.suites import labels

GATE = GATES["ingest"]
# A night of half or twice the usual rows is worth a look, one of a fifth or five times a stop.
ODD_VOLUME, WRONG_VOLUME = 2.0, 5.0


def expectations(
    max_quarantined_share: float = 0.2, *, allow_empty: bool = False
) -> list[Expectation]:
    """Over facts per night."""
    return [
        *_conservation(allow_empty=allow_empty),
        Expectation(
            "quarantined_share",
            f"At most {max_quarantined_share:.0%} of a night's rows are refused.",
            gxe.ExpectColumnValuesToBeBetween(
                column="quarantined_share", max_value=max_quarantined_share
            ),
            "{rows_quarantined} of {rows_read} rows ({quarantined_share:.0%})",
        ),
        none_of(
            "copies",
            "keys_unique",
            "A transaction id stands once.",
            "conservation",
            "{copies} rows more than ids",
        ),
        *given(TRANSACTIONS),
        at_least("amount", -MAX_AMOUNT),
        at_most("amount", MAX_AMOUNT),
        none_of(
            "nights_off",
            "dates_in_range",
            "Every transaction belongs to a night of this run.",
            "conservation",
            "nights that are none of this run's: {nights_off}",
        ),
        *_volume(),
        *labels.expectations(),
    ]


def _conservation(*, allow_empty: bool) -> list[Expectation]:
    checks = [
        none_of(
            "rows_lost",
            "conservation",
            "Every row read is accepted or quarantined.",
            "conservation",
            "{rows_read} read, {rows_accepted} accepted, {rows_quarantined} quarantined",
        ),
        none_of(
            "labels_lost",
            "label_conservation",
            "Every label read is accepted, quarantined or dropped as told before.",
            "conservation",
            "{labels_read} labels read, {labels_accepted} accepted, "
            "{labels_quarantined} quarantined, {labels_dropped} dropped",
        ),
        none_of(
            "records_of_many_lines",
            "no_swallowed_rows",
            "No record goes over several lines: it may hold rows that nobody has read.",
            "conservation",
            "{records_of_many_lines} records, perhaps after a quote that is not closed; "
            'a mapping with line_breaks = "allowed" vouches for fields of several lines',
        ),
    ]
    if not allow_empty:
        rule = gxe.ExpectColumnValuesToBeBetween(column="rows_read", min_value=1)
        checks.append(Expectation("rows_read", "A night has rows.", rule, "{rows_read} rows"))
    return checks


def _volume() -> list[Expectation]:
    words = "{rows_accepted} rows against a median of {usual:g}"
    odd = steady(
        "factor",
        "volume",
        "A night has between half and twice the rows of the nights before it.",
        ODD_VOLUME,
        words,
    )
    wrong = steady(
        "factor",
        "volume_plausible",
        "A night has between a fifth and five times the rows of the nights before it.",
        WRONG_VOLUME,
        words,
    )
    return [warning(odd), wrong]


def counted(transactions: DataFrame) -> list[Counted]:
    """Facts per night of accepted transactions: one pass, and one shuffle for their ids."""
    profile = Profile(("amount",), required(TRANSACTIONS))
    return [profile.of(transactions), copies(transactions, SOURCE.key, "copies")]


def judge(
    dates: Dates,
    facts: Sequence[NightCounts],
    counted: Sequence[Counted],
    checks: Sequence[Expectation],
) -> GateResult:
    """The gate over per-night facts: one failing night fails it, by name."""
    rows = nights(dates, (_told(facts), *counted))
    return validate(GATE, checks, rows, "business_date")


def _told(facts: Sequence[NightCounts]) -> Counted:
    by_night = {night.business_date: _of(night) for night in facts}
    return Counted(by_night, _of(NightCounts(date.min)))


def _of(night: NightCounts) -> dict[str, Any]:
    told = asdict(night)
    del told["business_date"]
    return {
        **told,
        "quarantined_share": night.quarantined_share,
        "rows_lost": abs(night.rows_read - night.rows_accepted - night.rows_quarantined),
        "labels_lost": abs(
            night.labels_read
            - night.labels_accepted
            - night.labels_quarantined
            - night.labels_dropped
        ),
    }


def volume(facts: Sequence[NightCounts], history: Mapping[date, int]) -> Counted:
    """Each night's accepted rows beside those of up to 28 nights before it; none for no rows."""
    accepted = {night.business_date: night.rows_accepted for night in facts if night.rows_read}
    return Counted(factors(accepted, history), {"factor": None, "usual": None})


def schema_expectations() -> list[Expectation]:
    """Over facts of columns."""
    return [same_columns(TRANSACTIONS.name)]


def judge_schema(found: Mapping[str, str], declared: Mapping[str, str]) -> GateResult:
    """Whether the columns to be published are those declared; all differences are named."""
    return validate(GATE, schema_expectations(), columns(found, declared), "column")
