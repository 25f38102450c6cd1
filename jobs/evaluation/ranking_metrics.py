"""Compute AUC ROC, average precision and card precision at k over rows that stay in Spark.

Both curve metrics are exact, also with ties. Rows are counted per distinct value, the values are
range-partitioned, and each partition continues from the totals of the partitions above it. Only
one row per partition and the metrics reach the driver. Definitions (those of scikit-learn):
AUC ROC = sum over values of negatives x (positives above + positives here / 2) / (P x N);
average precision = sum over values of (positives here / P) x precision at that value.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from fraud_models.evaluation.card_precision import card_precision_at_k


@dataclass(frozen=True)
class RankingMetrics:
    """Metrics of one ranking of the rows."""

    num_transactions: int
    num_frauds: int
    roc_auc: float
    average_precision: float
    cp_at_k: float


def ranking_metrics(rows: DataFrame, value: str, k: int) -> RankingMetrics:
    """Return the metrics of the ranking by the column `value` (higher is more anomalous).

    `rows` has `business_date, card_id, transaction_id, is_fraud` and the value, without nulls.
    A metric is NaN where it is undefined: without frauds, or without genuine transactions.
    """
    fraud = F.col("is_fraud").cast("bigint")
    per_value = rows.groupBy(F.col(value).alias("value")).agg(
        F.sum(fraud).alias("positives"), F.sum(1 - fraud).alias("negatives")
    )
    ordered = (
        per_value.repartitionByRange(F.desc("value"))
        .withColumn("part", F.spark_partition_id())
        .persist()
    )
    try:
        totals = (
            ordered.groupBy("part")
            .agg(F.sum("positives").alias("p"), F.sum("negatives").alias("n"))
            .orderBy("part")
            .collect()
        )
        num_frauds = sum(row["p"] for row in totals)
        num_genuine = sum(row["n"] for row in totals)
        roc_auc, average_precision = float("nan"), float("nan")
        if num_frauds and num_genuine:
            above: dict[int, int] = {}
            genuine_above: dict[int, int] = {}
            p = n = 0
            for row in totals:
                above[row["part"]], genuine_above[row["part"]] = p, n
                p, n = p + row["p"], n + row["n"]
            sums = _sums(ordered, above, genuine_above)
            roc_auc = sums["pairs"] / (num_frauds * num_genuine)
            average_precision = sums["weighted_precision"] / num_frauds
    finally:
        ordered.unpersist()
    return RankingMetrics(
        num_frauds + num_genuine,
        num_frauds,
        roc_auc,
        average_precision,
        card_precision_at_k(top_cards(rows, value, k), k),
    )


def _sums(ordered: DataFrame, above: dict[int, int], genuine_above: dict[int, int]) -> pd.Series:
    """Return the numerators of AUC ROC and average precision."""
    from_top = (
        Window.partitionBy("part")
        .orderBy(F.desc("value"))
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    tp = F.sum("positives").over(from_top) + _lookup(above)
    fp = F.sum("negatives").over(from_top) + _lookup(genuine_above)
    counted = ordered.withColumn("tp", tp).withColumn("fp", fp)
    positives, negatives = F.col("positives"), F.col("negatives")
    return (
        counted.agg(
            F.sum(negatives * (F.col("tp") - positives / 2)).alias("pairs"),
            F.sum(positives * F.col("tp") / (F.col("tp") + F.col("fp"))).alias(
                "weighted_precision"
            ),
        )
        .toPandas()
        .iloc[0]
    )


def _lookup(by_part: dict[int, int]) -> Column:
    pairs = [F.lit(item) for pair in by_part.items() for item in pair]
    return F.create_map(*pairs)[F.col("part")]


def top_cards(rows: DataFrame, value: str, k: int) -> list[pd.DataFrame]:
    """Return per night the cards that can enter the top k once detected cards are removed.

    The tables are ordered by night and have `business_date, card_id, score, transaction_id,
    is_fraud`.
    """
    nights = [row[0] for row in rows.select("business_date").distinct().orderBy(1).collect()]
    per_card = rows.groupBy("business_date", "card_id").agg(
        F.max(value).alias("score"),
        F.min_by("transaction_id", F.struct(-F.col(value), "transaction_id")).alias(
            "transaction_id"
        ),
        F.max("is_fraud").alias("is_fraud"),
    )
    first = Window.partitionBy("business_date").orderBy(F.desc("score"), "transaction_id")
    # Each earlier night detects, and so removes, at most k cards.
    deep_enough = k * max(1, len(nights))
    top = (
        per_card.withColumn("rank", F.row_number().over(first))
        .where(F.col("rank") <= deep_enough)
        .drop("rank")
        .toPandas()
    )
    return [top[top["business_date"] == night].reset_index(drop=True) for night in nights]
