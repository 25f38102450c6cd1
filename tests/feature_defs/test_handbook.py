"""Our features equal the published ones of the handbook, except for ties within one second."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_defs.labels import LabelPolicy

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.handbook]

FIRST, LAST = date(2018, 4, 1), date(2018, 5, 15)


# Slow: 431,773 rows with 14 columns are compared.
def test_features_equal_the_published_ones(spark: SparkSession, handbook: Path) -> None:
    from handbook_features import compare
    from pyspark.sql import functions as F

    from feature_defs.point_in_time.compiler import compile_features
    from feature_defs.point_in_time.labels_as_of import FeatureInputs

    source = spark.read.parquet(str(handbook / "handbook_transactions.parquet"))
    named = source.select(
        F.col("TRANSACTION_ID").cast("string").alias("transaction_id"),
        F.col("TX_DATETIME").cast("timestamp").alias("event_time"),
        F.to_date("TX_DATETIME").alias("business_date"),
        F.col("CUSTOMER_ID").cast("string").alias("card_id"),
        F.col("TERMINAL_ID").cast("string").alias("merchant_id"),
        F.col("TX_AMOUNT").cast("decimal(18,3)").alias("amount"),
        (F.col("TX_FRAUD") == 1).alias("is_fraud"),
    ).where(F.col("business_date").between(FIRST, LAST))
    labels = named.select(
        "transaction_id",
        "is_fraud",
        (F.col("event_time") + F.expr("INTERVAL 7 DAYS")).alias("label_time"),
    )
    ours = compile_features(
        FeatureInputs(named.drop("is_fraud"), labels, LabelPolicy()), FIRST, LAST, late_days=7
    )
    theirs = spark.read.parquet(str(handbook / "handbook_features_2018-04-01_2018-05-15.parquet"))
    found = compare(ours, theirs)
    assert found.only_ties_differ, found
    assert found.num_rows == 431_773
    assert found.num_columns == 14
