"""What features are made from, and what was known of a transaction at which moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_defs.point_in_time.stream_plan import MICROS_PER_DAY
from feature_defs.sources import LabelPolicy

VERSIONS = "_versions"
VERSION_TYPE = "array<struct<known:bigint,fraud:bigint>>"


@dataclass(frozen=True)
class Knowledge:
    """What features are made from: `labels` and `transactions` reach back over the lookback."""

    transactions: DataFrame
    labels: DataFrame
    policy: LabelPolicy


def with_versions(events: DataFrame, known: Knowledge) -> DataFrame:
    """Events with `_versions`: what was known of each from when on (microseconds), in order.

    `events` has `transaction_id` and `_t`. Of two labels of one moment the one that says fraud
    comes last. One shuffle brings labels to their transactions.
    """
    given = known.labels.groupBy("transaction_id").agg(
        F.sort_array(
            F.collect_set(
                F.struct(
                    F.unix_micros("label_time").alias("known"),
                    F.col("is_fraud").cast("bigint").alias("fraud"),
                )
            )
        ).alias(VERSIONS)
    )
    none = F.array().cast(VERSION_TYPE)
    joined = events.join(given, "transaction_id", "left")
    return joined.withColumn(VERSIONS, _with_implied(F.coalesce(VERSIONS, none), known.policy))


def _with_implied(versions: Column, policy: LabelPolicy) -> Column:
    """Versions, and in front the one that a label's absence implies."""
    if policy.maturity_days is None:
        return versions
    mature = F.col("_t") + policy.maturity_days * MICROS_PER_DAY
    implied = F.struct(mature.alias("known"), F.lit(0).cast("bigint").alias("fraud"))
    first = F.get(versions, 0)["known"]
    # Absence means genuine once the label would have come, unless one came before.
    return F.when(
        first.isNull() | (first > mature), F.concat(F.array(implied), versions)
    ).otherwise(versions)


def known_labels(known: Knowledge, moment: datetime) -> DataFrame:
    """Label of each transaction at a moment: `transaction_id, is_fraud, label_time`.

    The latest label with `label_time` not after the moment; of two labels with the same
    `label_time` the one that says fraud. Transactions without a mature label have no row.
    """
    versions = _label_versions(known)
    mature = versions.where(F.col("label_time") <= F.lit(moment))
    order = F.struct("label_time", "is_fraud")
    return mature.groupBy("transaction_id").agg(
        F.max_by("is_fraud", order).alias("is_fraud"), F.max("label_time").alias("label_time")
    )


def _label_versions(known: Knowledge) -> DataFrame:
    """All labels, with those that the policy implies: `transaction_id, is_fraud, label_time`."""
    given = known.labels.select("transaction_id", "is_fraud", "label_time")
    if known.policy.maturity_days is None:
        return given
    # Absence means genuine once the label would have come, unless one came before.
    mature_after = F.expr(f"INTERVAL {int(known.policy.maturity_days)} DAYS")
    first_given = given.groupBy("transaction_id").agg(F.min("label_time").alias("_first"))
    implied = (
        known.transactions.select(
            "transaction_id",
            F.lit(False).alias("is_fraud"),
            (F.col("event_time") + mature_after).alias("label_time"),
        )
        .join(first_given, "transaction_id", "left")
        .where("_first IS NULL OR _first > label_time")
        .drop("_first")
    )
    return given.unionByName(implied)
