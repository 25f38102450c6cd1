"""Keys are compared both ways, with and without a shuffle."""

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


def found(one: DataFrame, other: DataFrame) -> dict[date, list[int]]:
    profile = row_counts.Profile(counted={"longest": "max(length(transaction_id))"})
    accepted = row_counts.AcceptedKeys(one, version=3)
    coverage, counted = row_counts.counted_with_coverage(profile, accepted, other)
    assert all(set(facts) == {"longest"} for facts in counted.by_night.values())
    by_night = coverage.by_night
    names: Sequence[str] = tuple(row_counts.NO_KEYS)
    return {day: [row[name] for name in names] for day, row in by_night.items()}


def test_equal_keys_need_no_comparison(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(row_counts, "_compared")
    rows = [(DAY, "a"), (DAY, "b"), (NEXT, "c")]
    same = found(keys(spark, *rows), keys(spark, *rows[::-1]))
    assert same == {DAY: [2, 2, 0, 0, 0], NEXT: [1, 1, 0, 0, 0]}
    assert found(keys(spark), keys(spark)) == {}


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
def test_differing_keys_are_counted_one_by_one(
    spark: SparkSession, staged: list[tuple[date, str]], expected: dict[date, list[int]]
) -> None:
    accepted = keys(spark, (DAY, "a"), (DAY, "b"))
    assert found(accepted, keys(spark, *staged)) == expected


def test_what_was_counted_of_a_version_is_not_counted_again(spark: SparkSession) -> None:
    rows = keys(spark, (DAY, "a"), (NEXT, "b"))
    record = json.loads(json.dumps(row_counts.AcceptedKeys(rows, version=3).as_record()))
    nothing = keys(spark)
    same = row_counts.AcceptedKeys(nothing, version=3, counted=record)
    assert same.marks == row_counts.AcceptedKeys(rows, version=3).marks
    assert row_counts.AcceptedKeys(nothing, version=4, counted=record).marks == {}
    other = keys(spark, (DAY, "a"), (NEXT, "x"))
    profile = row_counts.Profile()
    (coverage, _) = row_counts.counted_with_coverage(
        profile, row_counts.AcceptedKeys(rows, 3, record), other
    )
    assert coverage.by_night[NEXT]["num_without"] == coverage.by_night[NEXT]["num_strangers"] == 1
