"""Gate 2: features may be scored when there is one sane row per accepted transaction."""

from __future__ import annotations

import great_expectations.expectations as gxe
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.catalogue import FEATURES
from feature_defs.definitions import Feature, Function, Kind
from jobs.quality.gate import Expectation

GATE = "gate 2 (features)"


def coverage(transactions: DataFrame, features: DataFrame) -> DataFrame:
    """One row per date: transactions, features, and keys that only one side has.

    One shuffle: both sides are counted together per key.
    """
    keys = ["business_date", "transaction_id"]
    both = transactions.select(*keys, F.lit(1).alias("t"), F.lit(0).alias("f")).unionByName(
        features.select(*keys, F.lit(0).alias("t"), F.lit(1).alias("f"))
    )
    per_key = both.groupBy(*keys).agg(F.sum("t").alias("t"), F.sum("f").alias("f"))
    return per_key.groupBy("business_date").agg(
        F.sum("t").alias("num_transactions"),
        F.sum("f").alias("num_features"),
        F.sum(F.greatest(F.col("t") - F.col("f"), F.lit(0))).alias("num_without_features"),
        F.sum(F.greatest(F.col("f") - F.col("t"), F.lit(0))).alias("num_without_transaction"),
    )


def coverage_expectations() -> list[Expectation]:
    """Over `coverage`: the keys with features are the keys accepted, both ways."""
    return [
        Expectation(
            "every_transaction_has_features",
            "every accepted transaction has one row of features",
            gxe.ExpectColumnValuesToBeBetween(
                column="num_without_features", min_value=0, max_value=0
            ),
        ),
        Expectation(
            "every_row_has_a_transaction",
            "every row of features belongs to one accepted transaction",
            gxe.ExpectColumnValuesToBeBetween(
                column="num_without_transaction", min_value=0, max_value=0
            ),
        ),
    ]


def value_expectations() -> list[Expectation]:
    """Over the staged features: ranges that no honest window can leave."""
    return [item for feature in FEATURES.values() for item in _of_feature(feature)]


def _of_feature(feature: Feature) -> list[Expectation]:
    low, high = _range(feature)
    found = [
        Expectation(
            f"{feature.name}_in_range",
            f"{feature.name} lies between {low} and {'any number' if high is None else high}",
            gxe.ExpectColumnValuesToBeBetween(
                column=feature.name, min_value=low, max_value=high if high is not None else 1e15
            ),
        )
    ]
    if _never_null(feature):
        found.append(
            Expectation(
                f"{feature.name}_there",
                f"{feature.name} is there in every row",
                gxe.ExpectColumnValuesToNotBeNull(column=feature.name),
            )
        )
    return found


def _range(feature: Feature) -> tuple[float, float | None]:
    now = feature.window is not None and feature.window.delay_days == 0
    return {
        Kind.AMOUNT: (-1e15, None),
        # A window with no delay holds the transaction itself.
        Kind.COUNT: (1 if now else 0, None),
        Kind.RATE: (0, 1),
        Kind.DURATION_S: (0, None),
        Kind.HOUR_OF_DAY: (0, 24),
        Kind.DAY_OF_WEEK: (0, 6),
    }[feature.kind]


def _never_null(feature: Feature) -> bool:
    if feature.function is Function.SECONDS_SINCE_LAST:
        return False
    window_has_itself = feature.window is None or feature.window.delay_days == 0
    return window_has_itself or feature.empty is not None or feature.kind is Kind.COUNT
