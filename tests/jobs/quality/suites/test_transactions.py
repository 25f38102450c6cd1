"""Gate 1 over facts: every check is seen failing, with the night's name."""

from datetime import date, timedelta
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.quality.facts import NightFacts
from jobs.quality.suites.transactions import check_types, check_volume, fact_checks, judge_facts

FIRST = date(2024, 3, 1)


def night(offset: int, **counts: Any) -> NightFacts:
    return NightFacts(FIRST + timedelta(days=offset), **counts)


@pytest.mark.spark
def test_each_failing_night_is_named(spark: SparkSession) -> None:
    facts = [
        night(0, rows_read=10, rows_accepted=8, rows_quarantined=2),
        night(1, rows_read=10, rows_accepted=8, rows_quarantined=1),
        night(2, rows_read=10, rows_accepted=7, rows_quarantined=3),
        night(3),
        night(4, rows_read=1, rows_accepted=1, labels_read=2, labels_accepted=1),
        night(5, rows_read=10, rows_accepted=9, rows_quarantined=1, records_of_many_lines=1),
    ]
    result = judge_facts(spark, facts, fact_checks(0.2, allow_empty=False))
    assert not result.passed
    observed = {check.name: (check.status, check.observed) for check in result.checks}
    assert observed == {
        "conservation": ("failed", "2024-03-02: 10 read, 8 accepted, 1 quarantined"),
        "quarantined_share": ("failed", "2024-03-03: 3 of 10 rows (30%)"),
        "rows_read": ("failed", "2024-03-04: no rows"),
        "label_conservation": (
            "failed",
            "2024-03-05: 2 labels read, 1 accepted, 0 quarantined, 0 dropped",
        ),
        "no_swallowed_rows": (
            "failed",
            "2024-03-06: 1 records, perhaps after a quote that is not closed",
        ),
    }
    fine = [facts[0], night(3)]
    assert judge_facts(spark, fine, fact_checks(0.2, allow_empty=True)).passed


@pytest.mark.spark
def test_a_wrong_type_is_named(spark: SparkSession) -> None:
    check = check_types(spark.range(1), {"id": "string", "other": "date"})
    assert check.stops
    assert (
        check.observed == "id is bigint and should be string; other is missing and should be date"
    )


def test_volume_is_judged_from_seven_earlier_nights_on() -> None:
    history = {FIRST + timedelta(days=offset): 100 for offset in range(6)}
    day = FIRST + timedelta(days=6)
    assert check_volume({day: 9}, history).status == "not applicable"
    history[day] = 120
    assert check_volume({day + timedelta(days=1): 60}, history).status == "passed"
    odd = check_volume({day + timedelta(days=1): 49, day + timedelta(days=2): 201}, history)
    assert odd.status == "failed" and not odd.stops
    assert odd.observed == (
        "2024-03-08: 49 rows against a median of 100; 2024-03-09: 201 rows against a median of 100"
    )
