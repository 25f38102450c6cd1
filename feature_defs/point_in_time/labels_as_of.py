"""What features are made from, and what was known of a transaction at which moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as SparkWindow
from pyspark.sql import functions as F

from feature_defs.labels import LabelPolicy
from feature_defs.point_in_time.stream_plan import MICROS_PER_DAY

# A label as one whole number: twice the moment it became known (microseconds), one more for fraud.
# So of two labels of one moment the one that says fraud comes last.
LABEL, LABEL_BEFORE = "_label", "_label_before"


@dataclass(frozen=True)
class FeatureInputs:
    """What features are made from: `labels` and `transactions` reach back over the lookback."""

    transactions: DataFrame
    labels: DataFrame
    policy: LabelPolicy


def with_labels(events: DataFrame, labels: DataFrame) -> DataFrame:
    """Events, each as often as it has labels, with `_label` and the `_label_before` it.

    `events` has `transaction_id`. An event without labels stands once, with nulls; an event's
    first row has no label before. One shuffle brings labels to their transactions.
    """
    of_one = SparkWindow.partitionBy("transaction_id").orderBy(LABEL)
    given = labels.select("transaction_id", _code().alias(LABEL)).withColumn(
        LABEL_BEFORE, F.lag(LABEL).over(of_one)
    )
    return events.join(given, "transaction_id", "left")


def _code() -> Column:
    return F.unix_micros("label_time") * 2 + F.col("is_fraud").cast("bigint")


def moment_of(label: Column) -> Column:
    """When a label became known, in microseconds."""
    return F.shiftright(label, 1)


def fraud_of(label: Column) -> Column:
    """1 for fraud, else 0."""
    return label.bitwiseAND(F.lit(1).cast("bigint"))


def labels_as_of(known: FeatureInputs, moment: datetime) -> DataFrame:
    """Label of each transaction at a moment: `transaction_id, is_fraud, label_time`.

    The latest label with `label_time` not after the moment; of two labels with the same
    `label_time` the one that says fraud. Transactions without a mature label have no row.
    """
    now = F.unix_micros(F.lit(moment))
    latest = (
        known.labels.where(F.unix_micros("label_time") <= now)
        .groupBy("transaction_id")
        .agg(F.max(_code()).alias(LABEL))
    )
    events = known.transactions.select("transaction_id", F.unix_micros("event_time").alias("_t"))
    label = F.coalesce(LABEL, implied_label(known.policy))
    return (
        events.join(latest, "transaction_id", "left")
        .withColumn(LABEL, F.when(moment_of(label) <= now, label))
        .where(F.col(LABEL).isNotNull())
        .select(
            "transaction_id",
            (fraud_of(F.col(LABEL)) == 1).alias("is_fraud"),
            F.timestamp_micros(moment_of(F.col(LABEL))).alias("label_time"),
        )
    )


def implied_label(policy: LabelPolicy) -> Column:
    """What the absence of labels says of an event (`_t`), once they would have come; or null."""
    if policy.maturity_days is None:
        return F.lit(None).cast("bigint")
    return (F.col("_t") + policy.maturity_days * MICROS_PER_DAY) * 2
