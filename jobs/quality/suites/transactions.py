"""Gate 1: is a delivery whole, and are its accepted transactions what the table declares?

Facts are one row per night, counted apart from each other: rows read in the source, rows
accepted and refused in what was written aside. A fact's verdict is a text that names the night,
or null, so a failing range says which of its nights fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from statistics import median

import great_expectations.expectations as gxe
from pyspark.sql import DataFrame, SparkSession

from jobs.quality.facts import NightFacts
from jobs.quality.gate import Check, Expectation, GateResult, validate
from jobs.quality.parsing import MAX_AMOUNT

GATE = "gate 1"
MIN_HISTORY_NIGHTS = 7
MAX_HISTORY_NIGHTS = 28
VOLUME_FACTOR = 2.0
MAX_NIGHTS_NAMED = 5


@dataclass(frozen=True)
class FactCheck:
    """A sentence about a night; `offence` says what is wrong with one, or nothing."""

    name: str
    sentence: str
    offence: Callable[[NightFacts], str | None]


def fact_checks(max_quarantined_share: float, *, allow_empty: bool) -> list[FactCheck]:
    """What has to hold for every night."""
    checks = [
        FactCheck(
            "conservation",
            "Every row read is accepted or quarantined.",
            _lost_rows,
        ),
        FactCheck(
            "label_conservation",
            "Every label read is accepted, quarantined or dropped as told before.",
            _lost_labels,
        ),
        FactCheck(
            "quarantined_share",
            f"At most {max_quarantined_share:.0%} of a night's rows are refused.",
            lambda night: _too_many(night, max_quarantined_share),
        ),
        FactCheck(
            "no_swallowed_rows",
            "No record goes over several lines: it may hold rows that nobody has read.",
            lambda night: (
                f"{night.records_of_many_lines} records, perhaps after a quote that is not closed; "
                'a mapping with line_breaks = "allowed" vouches for fields of several lines'
                if night.records_of_many_lines
                else None
            ),
        ),
    ]
    if not allow_empty:
        checks.append(
            FactCheck(
                "rows_read",
                "A night has rows.",
                lambda night: "no rows" if night.rows_read == 0 else None,
            )
        )
    return checks


def _lost_rows(night: NightFacts) -> str | None:
    if night.rows_read == night.rows_accepted + night.rows_quarantined:
        return None
    return (
        f"{night.rows_read} read, {night.rows_accepted} accepted, "
        f"{night.rows_quarantined} quarantined"
    )


def _lost_labels(night: NightFacts) -> str | None:
    kept = night.labels_accepted + night.labels_quarantined + night.labels_dropped
    if night.labels_read == kept:
        return None
    return (
        f"{night.labels_read} labels read, {night.labels_accepted} accepted, "
        f"{night.labels_quarantined} quarantined, {night.labels_dropped} dropped"
    )


def _too_many(night: NightFacts, most: float) -> str | None:
    if night.quarantined_share <= most:
        return None
    return f"{night.rows_quarantined} of {night.rows_read} rows ({night.quarantined_share:.0%})"


def judge_facts(
    spark: SparkSession, facts: Sequence[NightFacts], checks: Sequence[FactCheck]
) -> GateResult:
    """The gate over per-night facts: one failing night fails it, by name."""
    offences = {check.name: _offences(check, facts) for check in checks}
    rows = [
        (night.business_date, *(offences[check.name].get(night.business_date) for check in checks))
        for night in facts
    ]
    columns = ", ".join(f"{check.name} string" for check in checks)
    frame = spark.createDataFrame(rows, f"business_date date, {columns}").coalesce(1)
    expectations = [
        Expectation(check.name, check.sentence, gxe.ExpectColumnValuesToBeNull(column=check.name))
        for check in checks
    ]
    result = validate(GATE, expectations, frame)
    return replace(result, checks=tuple(_named(check, offences) for check in result.checks))


def _offences(check: FactCheck, facts: Sequence[NightFacts]) -> dict[date, str]:
    found = ((night.business_date, check.offence(night)) for night in facts)
    return {day: f"{day}: {offence}" for day, offence in found if offence is not None}


def _named(check: Check, offences: dict[str, dict[date, str]]) -> Check:
    if check.status != "failed":
        return check
    nights = list(offences[check.name].values())
    more = f"; and {len(nights) - MAX_NIGHTS_NAMED} more" if len(nights) > MAX_NIGHTS_NAMED else ""
    return replace(check, observed="; ".join(nights[:MAX_NIGHTS_NAMED]) + more)


def expectations(columns: Sequence[str], first: date, last: date) -> list[Expectation]:
    """What holds for accepted transactions, whatever the rules have let through."""
    return [
        Expectation(
            "schema",
            "The columns are those that the table declares.",
            gxe.ExpectTableColumnsToMatchOrderedList(column_list=list(columns)),
        ),
        Expectation(
            "keys_unique",
            "A transaction id stands once.",
            gxe.ExpectColumnValuesToBeUnique(column="transaction_id"),
        ),
        *(
            Expectation(
                f"{name}_given",
                f"Every transaction has its {name}.",
                gxe.ExpectColumnValuesToNotBeNull(column=name),
            )
            for name in ("transaction_id", "event_time", "card_id", "merchant_id", "amount")
        ),
        Expectation(
            "amounts_in_range",
            f"Amounts lie within {MAX_AMOUNT:,} on either side of zero.",
            gxe.ExpectColumnValuesToBeBetween(
                column="amount", min_value=-MAX_AMOUNT, max_value=MAX_AMOUNT
            ),
        ),
        Expectation(
            "dates_in_range",
            "Every transaction belongs to a night of this run.",
            gxe.ExpectColumnValuesToBeBetween(
                column="business_date", min_value=first, max_value=last
            ),
        ),
    ]


def check_types(frame: DataFrame, declared: dict[str, str]) -> Check:
    """Whether the columns have their declared types; all differences are listed."""
    found = dict(frame.dtypes)
    wrong = [
        f"{name} is {found.get(name, 'missing')} and should be {type_}"
        for name, type_ in declared.items()
        if found.get(name) != type_
    ]
    return Check(
        "types",
        "The columns have the types that the table declares.",
        "fail",
        "failed" if wrong else "passed",
        "; ".join(wrong),
    )


def check_volume(accepted: dict[date, int], history: dict[date, int]) -> Check:
    """Compare each night's rows with the median of up to 28 nights before it; it only warns."""
    known = dict(history)
    odd, judged = [], 0
    for day in sorted(accepted):
        earlier = [known[other] for other in sorted(known) if other < day][-MAX_HISTORY_NIGHTS:]
        known[day] = accepted[day]
        if len(earlier) < MIN_HISTORY_NIGHTS:
            continue
        judged += 1
        usual = median(earlier)
        if not usual / VOLUME_FACTOR <= accepted[day] <= usual * VOLUME_FACTOR:
            odd.append(f"{day}: {accepted[day]} rows against a median of {usual:g}")
    sentence = "A night has between half and twice the rows of the nights before it."
    if not judged:
        seen = f"fewer than {MIN_HISTORY_NIGHTS} earlier nights"
        return Check("volume", sentence, "warn", "not applicable", seen)
    seen = "; ".join(odd[:MAX_NIGHTS_NAMED]) or f"{judged} nights judged"
    return Check("volume", sentence, "warn", "failed" if odd else "passed", seen)
