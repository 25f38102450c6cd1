"""Gates 2 and 4: each kind of defect is caught by the check that is meant for it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = pytest.mark.spark

DAY = date(2024, 3, 1)
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


def keys(spark: SparkSession, *ids: str) -> DataFrame:
    return spark.createDataFrame(
        [(DAY, name) for name in ids], "business_date date, transaction_id string"
    )


def failed(result: Any) -> set[str]:
    return {check.name for check in result.checks if check.status == "failed"}


def features(spark: SparkSession, **changes: Any) -> DataFrame:
    """One row of features in which all is well, but for the changes."""
    from feature_defs.catalogue import FEATURES
    from jobs.lake.tables import FEATURES_TABLE

    row: dict[str, Any] = {
        "transaction_id": "a",
        "event_time": NOON,
        "business_date": DAY,
        "card_id": "c",
        "merchant_id": "m",
        "amount": Decimal("1.000"),
        **{name: 1 if f.type == "bigint" else 0.5 for name, f in FEATURES.items()},
        **changes,
    }
    names = FEATURES_TABLE.column_names
    return spark.createDataFrame([tuple(row[name] for name in names)], FEATURES_TABLE.ddl)


def test_gate_2_compares_the_keys_both_ways(spark: SparkSession) -> None:
    from jobs.quality.gate import validate
    from jobs.quality.suites import features as suite

    def check(transactions: DataFrame, built: DataFrame) -> set[str]:
        coverage = suite.coverage(transactions, built)
        return failed(validate(suite.GATE, suite.coverage_expectations(), coverage))

    assert check(keys(spark, "a", "b"), keys(spark, "a", "b")) == set()
    assert check(keys(spark, "a", "b"), keys(spark, "a")) == {"every_transaction_has_features"}
    assert check(keys(spark, "a"), keys(spark, "a", "b")) == {"every_row_has_a_transaction"}
    assert check(keys(spark, "a"), keys(spark, "a", "a")) == {"every_row_has_a_transaction"}


def test_gate_2_knows_the_range_of_every_feature(spark: SparkSession) -> None:
    from feature_defs.catalogue import FEATURES
    from jobs.quality.gate import validate
    from jobs.quality.suites import features as suite

    def check(frame: DataFrame) -> set[str]:
        return failed(validate(suite.GATE, suite.value_expectations(), frame))

    assert check(features(spark)) == set()
    bad: dict[str, Any] = {name: -1 if f.type == "bigint" else -1.0 for name, f in FEATURES.items()}
    bad |= {name: float("nan") for name in FEATURES if "amount" in name}
    names = check(features(spark, **bad))
    assert names == {f"{name}_in_range" for name in FEATURES}
    # Only a card's first transaction has no time since the last one.
    assert check(features(spark, **dict.fromkeys(FEATURES))) == {
        f"{name}_there" for name in FEATURES if name != "card_seconds_since_last_30d"
    }


def scores(spark: SparkSession, **changes: Any) -> DataFrame:
    """One score in which all is well, but for the changes."""
    row: dict[str, Any] = {
        "score": 0.5,
        "reconstruction_error": 1.0,
        "ranking_value": 1.0,
        "num_context_events": 0,
        "reasons": ["r"],
        **changes,
    }
    schema = (
        "score double, reconstruction_error double, ranking_value double, "
        "num_context_events int, reasons array<string>"
    )
    return spark.createDataFrame([tuple(row.values())], schema)


def test_gate_4_knows_what_a_score_can_be(spark: SparkSession) -> None:
    from jobs.quality.gate import validate
    from jobs.quality.suites import scores as suite

    def check(frame: DataFrame) -> set[str]:
        return failed(validate(suite.GATE, suite.value_expectations(), frame))

    assert check(scores(spark)) == set()
    wrong = scores(
        spark,
        score=1.5,
        reconstruction_error=float("nan"),
        ranking_value=float("inf"),
        num_context_events=-1,
    )
    assert check(wrong) == {
        "score_in_range",
        "reconstruction_error_finite",
        "ranking_value_finite",
        "num_context_events_in_range",
    }
    nothing = scores(spark, score=None, reconstruction_error=None, ranking_value=None, reasons=None)
    assert check(nothing) == {
        "score_there",
        "reconstruction_error_there",
        "ranking_value_there",
        "reasons_there",
    }


def test_gate_4_compares_keys_and_models(spark: SparkSession) -> None:
    from pyspark.sql import functions as F

    from jobs.quality.gate import validate
    from jobs.quality.suites import scores as suite

    def check(transactions: DataFrame, scored: DataFrame) -> set[str]:
        coverage = suite.coverage(transactions, scored)
        return failed(validate(suite.GATE, suite.coverage_expectations(), coverage))

    def by(model: str, *ids: str) -> DataFrame:
        return keys(spark, *ids).withColumn("model_version", F.lit(model))

    assert check(keys(spark, "a", "b"), by("1", "a", "b")) == set()
    assert check(keys(spark, "a", "b"), by("1", "a")) == {"every_transaction_scored"}
    assert check(keys(spark, "a"), by("1", "a", "b")) == {"every_score_accepted"}
    both = by("1", "a").unionByName(by("2", "b"))
    assert check(keys(spark, "a", "b"), both) == {"one_model"}
    # An empty night that was let through.
    assert check(keys(spark), by("1")) == set()
