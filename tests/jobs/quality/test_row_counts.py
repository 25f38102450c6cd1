"""Key coverage: accepted and staged keys are compared in both directions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import pytest

from jobs.quality import row_counts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark

DAY, NEXT = date(2024, 3, 1), date(2024, 3, 2)


def keys(spark: SparkSession, *rows: tuple[date, str]) -> DataFrame:
    return spark.createDataFrame(list(rows), "business_date date, transaction_id string")


def coverage(accepted: DataFrame, staged: DataFrame) -> dict[date, list[int]]:
    """Return the facts of `ZERO_COVERAGE`, in its order, by night."""
    profile = row_counts.Profile(aggregates={"longest": "max(length(transaction_id))"})
    accepted_keys = row_counts.AcceptedKeys(accepted, version=3)
    facts, profiled = row_counts.profile_with_key_coverage(profile, accepted_keys, staged)
    assert all(set(night) == {"longest"} for night in profiled.by_night.values())
    names: Sequence[str] = tuple(row_counts.ZERO_COVERAGE)
    return {day: [night[name] for name in names] for day, night in facts.by_night.items()}


def test_key_coverage_of_equal_keys_needs_no_shuffle(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(row_counts, "_compare_keys")
    rows = [(DAY, "a"), (DAY, "b"), (NEXT, "c")]
    equal = coverage(keys(spark, *rows), keys(spark, *rows[::-1]))
    assert equal == {DAY: [2, 2, 0, 0, 0], NEXT: [1, 1, 0, 0, 0]}
    assert coverage(keys(spark), keys(spark)) == {}


@pytest.mark.parametrize(
    ("staged", "expected"),
    [
        ([(DAY, "a"), (DAY, "x")], {DAY: [2, 2, 1, 1, 0]}),
        ([(DAY, "a"), (DAY, "a")], {DAY: [2, 2, 1, 0, 1]}),
        ([(DAY, "a")], {DAY: [2, 1, 1, 0, 0]}),
        ([(DAY, "a"), (DAY, "b"), (DAY, "b")], {DAY: [2, 3, 0, 0, 1]}),
        ([(DAY, "a"), (NEXT, "b")], {DAY: [2, 1, 1, 0, 0], NEXT: [0, 1, 0, 1, 0]}),
        ([], {DAY: [2, 0, 2, 0, 0]}),
    ],
)
def test_key_coverage_counts_missing_unknown_and_duplicate_keys(
    spark: SparkSession, staged: list[tuple[date, str]], expected: dict[date, list[int]]
) -> None:
    accepted = keys(spark, (DAY, "a"), (DAY, "b"))
    assert coverage(accepted, keys(spark, *staged)) == expected


def test_recorded_checksums_are_reused_for_the_same_version(spark: SparkSession) -> None:
    rows = keys(spark, (DAY, "a"), (NEXT, "b"))
    record = json.loads(json.dumps(row_counts.AcceptedKeys(rows, version=3).as_record()))
    no_rows = keys(spark)
    reused = row_counts.AcceptedKeys(no_rows, version=3, recorded=record)
    assert reused.checksums == row_counts.AcceptedKeys(rows, version=3).checksums
    assert row_counts.AcceptedKeys(no_rows, version=4, recorded=record).checksums == {}
    staged = keys(spark, (DAY, "a"), (NEXT, "x"))
    (facts, _) = row_counts.profile_with_key_coverage(
        row_counts.Profile(), row_counts.AcceptedKeys(rows, 3, record), staged
    )
    night = facts.by_night[NEXT]
    assert night["num_missing_keys"] == night["num_unknown_keys"] == 1
