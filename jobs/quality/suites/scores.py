"""Gate 4: scores may be published when each accepted transaction has exactly one sane score."""

from __future__ import annotations

import great_expectations.expectations as gxe
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.quality.gate import Expectation

GATE = "gate 4 (scores)"


def coverage(transactions: DataFrame, scores: DataFrame) -> DataFrame:
    """One row: keys accepted without a score, scores without an accepted key, models used."""
    keys = ["business_date", "transaction_id"]
    both = transactions.select(
        *keys, F.lit(1).alias("t"), F.lit(0).alias("s"), F.lit(None).cast("string").alias("m")
    ).unionByName(
        scores.select(
            *keys, F.lit(0).alias("t"), F.lit(1).alias("s"), F.col("model_version").alias("m")
        )
    )
    per_key = both.groupBy(*keys).agg(
        F.sum("t").alias("t"), F.sum("s").alias("s"), F.min("m").alias("m")
    )
    nothing = F.lit(0).cast("bigint")
    return per_key.agg(
        F.coalesce(F.sum(F.greatest(F.col("t") - F.col("s"), F.lit(0))), nothing).alias(
            "num_unscored"
        ),
        F.coalesce(F.sum(F.greatest(F.col("s") - F.col("t"), F.lit(0))), nothing).alias(
            "num_unaccepted"
        ),
        F.size(F.collect_set("m")).alias("num_models"),
    )


def coverage_expectations() -> list[Expectation]:
    """Over `coverage`: the keys scored are the keys accepted, both ways, by one model."""
    return [
        Expectation(
            "every_transaction_scored",
            "every accepted transaction has a score",
            gxe.ExpectColumnValuesToBeBetween(column="num_unscored", min_value=0, max_value=0),
        ),
        Expectation(
            "every_score_accepted",
            "every score belongs to one accepted transaction",
            gxe.ExpectColumnValuesToBeBetween(column="num_unaccepted", min_value=0, max_value=0),
        ),
        Expectation(
            "one_model",
            "one model has scored the whole night",
            gxe.ExpectColumnValuesToBeBetween(column="num_models", min_value=0, max_value=1),
        ),
    ]


def value_expectations() -> list[Expectation]:
    """Over the staged scores: numbers that calibration and likelihood can give."""
    largest = 1e12
    return [
        Expectation(
            "score_in_range",
            "a score lies between 0 and 1",
            gxe.ExpectColumnValuesToBeBetween(column="score", min_value=0, max_value=1),
        ),
        Expectation(
            "score_there",
            "a score is there in every row",
            gxe.ExpectColumnValuesToNotBeNull(column="score"),
        ),
        *(
            Expectation(
                f"{column}_finite",
                f"{column} is a finite number",
                gxe.ExpectColumnValuesToBeBetween(
                    column=column, min_value=-largest, max_value=largest
                ),
            )
            for column in ("reconstruction_error", "ranking_value")
        ),
        *(
            Expectation(
                f"{column}_there",
                f"{column} is there in every row",
                gxe.ExpectColumnValuesToNotBeNull(column=column),
            )
            for column in ("reconstruction_error", "ranking_value", "reasons")
        ),
        Expectation(
            "num_context_events_in_range",
            "the number of context events is not negative",
            gxe.ExpectColumnValuesToBeBetween(column="num_context_events", min_value=0),
        ),
    ]
