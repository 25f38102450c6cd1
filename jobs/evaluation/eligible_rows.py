"""Select the transactions of an evaluation: mature labels, without compromised cards.

The protocol is that of the handbook. A card that is known to be compromised when a night begins
is left out of that night, because investigators would have blocked it. The metrics therefore
cover undetected cards only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.errors import InputMissing
from feature_defs.labels import LabelPolicy, known_before
from feature_defs.point_in_time.labels_as_of import FeatureInputs, labels_as_of
from fraud_models.evaluation.splits import KNOWN_FRAUD_LOOKBACK_DAYS
from jobs.deliveries.delivery_history import label_policy
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.runs import now
from jobs.lake.tables import FEATURES_TABLE, LABELS, NIGHTS, TRANSACTIONS

EVALUATED_TABLES = (FEATURES_TABLE, TRANSACTIONS, LABELS)
# A night with a smaller share of transactions with a mature label cannot be evaluated.
LEAST_LABELLED_SHARE = 0.99


@dataclass(frozen=True)
class EvaluationTables:
    """The tables that an evaluation reads, at its pinned versions."""

    features: DataFrame
    transactions: DataFrame
    labels: DataFrame
    label_policy: LabelPolicy
    known_at: datetime
    """Labels count if they were mature at this moment (UTC)."""


def read_evaluation_tables(lake: Lake, versions: Mapping[str, int]) -> EvaluationTables:
    """Read the `EVALUATED_TABLES` at the given versions.

    Labels count if they became known before the end of the newest night, and not in the future.
    """
    features, transactions, labels = (
        lake.read(table, versions[table.name]) for table in EVALUATED_TABLES
    )
    newest = lake.read(NIGHTS).agg(F.max("business_date")).collect()[0][0]
    known_at = min(now(), known_before(newest + timedelta(days=1)))
    return EvaluationTables(features, transactions, labels, label_policy(lake), known_at)


def rows_to_evaluate(tables: EvaluationTables, dates: Dates) -> DataFrame:
    """Return `business_date, transaction_id, card_id, is_fraud` of the eligible transactions.

    Raises:
        InputMissing: there are no rows, or the labels of a night are not mature yet; evaluate
            earlier nights, or ingest the nights that deliver the labels.
    """
    first = dates.first - timedelta(days=KNOWN_FRAUD_LOOKBACK_DAYS)
    recent = tables.transactions.where(
        F.col("business_date").between(F.lit(first), F.lit(dates.last))
    )
    mature = labels_as_of(
        FeatureInputs(recent, tables.labels, tables.label_policy), tables.known_at
    )
    nights = recent.where(F.expr(dates.sql)).join(mature, "transaction_id", "left")
    _check_mature(nights, dates, str(tables.known_at))
    labels_seen = recent.select("card_id", "transaction_id", "event_time").join(
        tables.labels.select("transaction_id", "label_time", "is_fraud"), "transaction_id"
    )
    labelled = nights.where(F.col("is_fraud").isNotNull())
    rows = without_compromised_cards(labelled, labels_seen, dates.first)
    return rows.select("business_date", "transaction_id", "card_id", "is_fraud")


def without_compromised_cards(rows: DataFrame, labels_seen: DataFrame, first: date) -> DataFrame:
    """Drop the rows of cards that were known to be compromised when their night began, 00:00 UTC.

    `labels_seen` has every label of the cards' events: `card_id, transaction_id, event_time,
    label_time, is_fraud`. A card counts as compromised while the newest label of one of its events
    says fraud: from the first such label until it is withdrawn. Events from more than two weeks
    before the first night do not count, as in the handbook's protocol.
    """
    since = known_before(first - timedelta(days=KNOWN_FRAUD_LOOKBACK_DAYS))
    recent = labels_seen.where(F.col("event_time") >= F.lit(since))
    ever_fraud = recent.where("is_fraud").select("transaction_id").distinct()
    nights = rows.select("business_date").distinct()
    begins = F.col("business_date").cast("timestamp")
    compromised = (
        recent.join(ever_fraud, "transaction_id", "left_semi")
        .join(F.broadcast(nights), F.col("label_time") <= begins)
        .groupBy("business_date", "card_id", "transaction_id")
        .agg(F.max(F.struct("label_time", "is_fraud")).alias("newest"))
        .where("newest.is_fraud")
    )
    return rows.join(compromised, ["business_date", "card_id"], "left_anti")


def _check_mature(nights: DataFrame, dates: Dates, moment: str) -> None:
    """Check that the nights have transactions with mature labels.

    Raises:
        InputMissing: there are no rows, or labels are not mature yet; all such nights are named.
    """
    per_night = (
        nights.groupBy("business_date")
        .agg(F.count("*").alias("num_rows"), F.count("is_fraud").alias("num_labelled"))
        .orderBy("business_date")
        .collect()
    )
    immature = [
        f"{row['business_date']} ({row['num_labelled']} of {row['num_rows']})"
        for row in per_night
        if row["num_labelled"] < LEAST_LABELLED_SHARE * row["num_rows"]
    ]
    if immature or not per_night:
        raise InputMissing(
            f"The nights {dates} cannot be evaluated at {moment}: "
            + (
                f"too few labels are mature on {', '.join(immature)}."
                if immature
                else "they have no transactions."
            ),
            expected="nights with transactions whose labels are mature.",
            remedy="evaluate earlier nights, or ingest the nights that deliver the labels.",
        )
