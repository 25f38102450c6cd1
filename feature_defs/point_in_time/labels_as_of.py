"""Labels as of a moment, and the inputs of features. Features and training use the same rule.

`feature_defs/labels.py` explains when a label is mature.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as SparkWindow
from pyspark.sql import functions as F

from feature_defs.labels import LabelPolicy
from feature_defs.point_in_time.stream_plan import MICROS_PER_DAY

# A label is coded as one integer: twice its `label_time` in microseconds, plus 1 for fraud. So of
# two labels with the same `label_time` the fraud label is the later one.
LABEL, PREVIOUS_LABEL = "_label", "_previous_label"


@dataclass(frozen=True)
class FeatureInputs:
    """The inputs of features: `transactions` and `labels` must cover the lookback."""

    transactions: DataFrame
    labels: DataFrame
    policy: LabelPolicy


def with_labels(events: DataFrame, labels: DataFrame) -> DataFrame:
    """Return one row per event and label, with the columns `_label` and `_previous_label`.

    `events` has `transaction_id`. An event without labels has one row, with nulls. The first row
    of an event has no previous label. One shuffle brings the labels to their transactions.
    """
    by_transaction = SparkWindow.partitionBy("transaction_id").orderBy(LABEL)
    coded = labels.select("transaction_id", _label_code().alias(LABEL)).withColumn(
        PREVIOUS_LABEL, F.lag(LABEL).over(by_transaction)
    )
    return events.join(coded, "transaction_id", "left")


def _label_code() -> Column:
    return F.unix_micros("label_time") * 2 + F.col("is_fraud").cast("bigint")


def label_micros(label: Column) -> Column:
    """Return the `label_time` of a coded label, in microseconds."""
    return F.shiftright(label, 1)


def fraud_bit(label: Column) -> Column:
    """Return 1 if a coded label says fraud, else 0."""
    return label.bitwiseAND(F.lit(1).cast("bigint"))


def labels_as_of(inputs: FeatureInputs, moment: datetime) -> DataFrame:
    """Return the mature label of each transaction: `transaction_id, is_fraud, label_time`.

    It is the latest label with a `label_time` not after the moment; of two labels with the same
    `label_time` the fraud label. Transactions without a mature label have no row.
    """
    now = F.unix_micros(F.lit(moment))
    latest = (
        inputs.labels.where(F.unix_micros("label_time") <= now)
        .groupBy("transaction_id")
        .agg(F.max(_label_code()).alias(LABEL))
    )
    events = inputs.transactions.select("transaction_id", F.unix_micros("event_time").alias("_t"))
    label = F.coalesce(LABEL, implied_label(inputs.policy))
    return (
        events.join(latest, "transaction_id", "left")
        .withColumn(LABEL, F.when(label_micros(label) <= now, label))
        .where(F.col(LABEL).isNotNull())
        .select(
            "transaction_id",
            (fraud_bit(F.col(LABEL)) == 1).alias("is_fraud"),
            F.timestamp_micros(label_micros(F.col(LABEL))).alias("label_time"),
        )
    )


def implied_label(policy: LabelPolicy) -> Column:
    """Return the coded label that a missing label implies for an event at `_t`.

    It says genuine, `maturity_days` after the event; null when a missing label implies nothing.
    """
    if policy.maturity_days is None:
        return F.lit(None).cast("bigint")
    return (F.col("_t") + policy.maturity_days * MICROS_PER_DAY) * 2
