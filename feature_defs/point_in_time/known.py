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


def version_by(moment: Column) -> Column:
    """What was known of an event at a moment (microseconds); null when nothing was."""
    then = F.filter(VERSIONS, lambda version: version["known"] <= moment)
    return F.get(then, F.size(then) - 1)


def known_labels(known: Knowledge, moment: datetime) -> DataFrame:
    """Label of each transaction at a moment: `transaction_id, is_fraud, label_time`.

    The latest label with `label_time` not after the moment; of two labels with the same
    `label_time` the one that says fraud. Transactions without a mature label have no row.
    """
    events = known.transactions.select("transaction_id", F.unix_micros("event_time").alias("_t"))
    latest = version_by(F.unix_micros(F.lit(moment)))
    return (
        with_versions(events, known)
        .withColumn("latest", latest)
        .where("latest IS NOT NULL")
        .select(
            "transaction_id",
            (F.col("latest.fraud") == 1).alias("is_fraud"),
            F.timestamp_micros("latest.known").alias("label_time"),
        )
    )
