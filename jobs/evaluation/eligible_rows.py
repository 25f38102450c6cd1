"""Which transactions of some nights are judged."""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.errors import InputMissing
from feature_defs.labels import known_before
from feature_defs.point_in_time.labels_as_of import FeatureInputs, labels_as_of
from fraud_models.evaluation.splits import KNOWN_FRAUD_LOOKBACK_DAYS
from jobs.deliveries.label_policy import label_policy
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run, now
from jobs.lake.tables import LABELS, NIGHTS, TRANSACTIONS

# Below this share of transactions with a mature label a night cannot be judged.
LEAST_LABELLED_SHARE = 0.99


def rows_to_evaluate(lake: Lake, dates: Dates, run: Run) -> DataFrame:
    """Keys of the nights' transactions with a mature label; known cards are out.

    `run` names the versions of the tables that are read.

    Raises:
        InputMissing: there are no rows, or nights whose labels are not mature yet.
    """
    newest = lake.read(NIGHTS).agg(F.max("business_date")).collect()[0][0]
    moment = min(now(), known_before(newest + timedelta(days=1)))
    early = dates.first - timedelta(days=KNOWN_FRAUD_LOOKBACK_DAYS)
    transactions = lake.read(TRANSACTIONS, run.versions_in[TRANSACTIONS.name])
    near = transactions.where(F.col("business_date").between(F.lit(early), F.lit(dates.last)))
    labels = lake.read(LABELS, run.versions_in[LABELS.name])
    known = labels_as_of(FeatureInputs(near, labels, label_policy(lake)), moment)
    nights = near.where(F.expr(dates.sql)).join(known, "transaction_id", "left")
    _check_mature(nights, dates, str(moment))
    labelled = nights.where(F.col("is_fraud").isNotNull())
    told = near.select("card_id", "transaction_id", "event_time").join(
        labels.select("transaction_id", "label_time", "is_fraud"), "transaction_id"
    )
    rows = without_compromised_cards(labelled, told, dates.first)
    return rows.select("business_date", "transaction_id", "card_id", "is_fraud")


def without_compromised_cards(rows: DataFrame, told: DataFrame, first: date) -> DataFrame:
    """Rows of cards that nobody had reason to block when their night began, 00:00 UTC.

    `told` has every label of the cards' events: `card_id, transaction_id, event_time, label_time,
    is_fraud`. A card is out of the nights that begin when the newest label of one of its events
    says fraud: from the first such label on, unless it is withdrawn. Events from more than two
    weeks before the first night are forgotten, as in the handbook's protocol.
    """
    since = known_before(first - timedelta(days=KNOWN_FRAUD_LOOKBACK_DAYS))
    recent = told.where(F.col("event_time") >= F.lit(since))
    suspected = recent.where("is_fraud").select("transaction_id").distinct()
    nights = rows.select("business_date").distinct()
    begins = F.col("business_date").cast("timestamp")
    blocked = (
        recent.join(suspected, "transaction_id", "left_semi")
        .join(F.broadcast(nights), F.col("label_time") <= begins)
        .groupBy("business_date", "card_id", "transaction_id")
        .agg(F.max(F.struct("label_time", "is_fraud")).alias("newest"))
        .where("newest.is_fraud")
    )
    return rows.join(blocked, ["business_date", "card_id"], "left_anti")


def _check_mature(nights: DataFrame, dates: Dates, moment: str) -> None:
    """Check that the nights can be judged.

    Raises:
        InputMissing: there are no rows, or nights whose labels are not mature yet; all are named.
    """
    per_night = (
        nights.groupBy("business_date")
        .agg(F.count("*").alias("n"), F.count("is_fraud").alias("labelled"))
        .orderBy("business_date")
        .collect()
    )
    immature = [
        f"{row['business_date']} ({row['labelled']} of {row['n']})"
        for row in per_night
        if row["labelled"] < LEAST_LABELLED_SHARE * row["n"]
    ]
    if immature or not per_night:
        raise InputMissing(
            f"The nights {dates} cannot be judged at {moment}: "
            + (
                f"too few labels are mature on {', '.join(immature)}."
                if immature
                else "they have no transactions."
            ),
            expected="nights with transactions whose labels are mature.",
            remedy="evaluate earlier nights, or ingest the nights that bring the labels.",
        )
