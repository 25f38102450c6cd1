"""Measure which alerts of earlier nights turned out to be fraud, by the labels known so far.

A night counts once its labels are mature at 00:00 UTC of the report's date. That is when nearly
all transactions of its alerted cards have a label of their own. If the source labels frauds only,
it is when the maturity period has passed, after which a missing label means genuine. Labels from
investigations tell whether an alert was fraud. They do not count towards maturity, because only
alerted transactions have them.

Until a night is mature, the page shows the latest evaluation of the model instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.labels import known_before
from jobs.lake.tables import ALERTS, LABELS, METRICS, TRANSACTIONS
from jobs.report_pages.page_data import HISTORY_NIGHTS, ReportSource

# Labels of a night can arrive up to a month later, so this many days are searched.
LABEL_SEARCH_DAYS = 60
METRIC_ROWS = 500
MATURE_SHARE = 0.99
INVESTIGATION = "investigation"


@dataclass(frozen=True)
class AlertOutcome:
    """Alerts of one mature night, and how many of their cards had a confirmed fraud that night."""

    day: date
    num_alerts: int
    num_frauds: int

    @property
    def precision(self) -> float:
        """Return the share of alerted cards with a fraud that night (card precision at k, CP@k)."""
        return self.num_frauds / self.num_alerts


@dataclass(frozen=True)
class EvaluationMetric:
    """One metric of an evaluation, with its interval if it has one."""

    model: str
    first_date: date
    last_date: date
    name: str
    value: float | None
    low: float | None
    high: float | None

    def is_of(self, model_version: str | None) -> bool:
        """Return whether this is a metric of the model version, by the name `evaluate` gives it."""
        return self.model == candidate_name(model_version)


def mature_outcomes(source: ReportSource, maturity_days: int | None) -> list[AlertOutcome]:
    """Return the outcomes of the last mature nights with alerts, oldest first."""
    alerted = (
        source.nights(ALERTS, LABEL_SEARCH_DAYS)
        .where(F.col("business_date") < F.lit(source.day))
        .select("business_date", "card_id")
    )
    transactions = source.nights(TRANSACTIONS, LABEL_SEARCH_DAYS).select(
        "business_date", "card_id", "transaction_id"
    )
    of_alerted_cards = transactions.join(F.broadcast(alerted), ["business_date", "card_id"])
    labels = _labels(source, of_alerted_cards)
    by_card = (
        of_alerted_cards.join(F.broadcast(labels), "transaction_id", "left")
        .groupBy("business_date", "card_id")
        .agg(
            F.count("*").alias("transactions"),
            F.count("is_labelled").alias("labelled"),
            F.max(F.coalesce("is_fraud", F.lit(False))).cast("int").alias("fraud"),
        )
    )
    rows = (
        by_card.groupBy("business_date")
        .agg(
            F.count("*").alias("alerts"),
            F.sum("fraud").alias("frauds"),
            (F.sum("labelled") / F.sum("transactions")).alias("share"),
        )
        .orderBy("business_date")
        .collect()
    )
    return [
        AlertOutcome(row["business_date"], row["alerts"], row["frauds"])
        for row in rows
        if _is_mature(source.day, row["business_date"], row["share"], maturity_days)
    ][-HISTORY_NIGHTS:]


def _labels(source: ReportSource, transactions: DataFrame) -> DataFrame:
    """Return the latest known label of each of these few transactions."""
    known = source.nights(LABELS, LABEL_SEARCH_DAYS).where(
        F.col("label_time") <= F.lit(known_before(source.day))
    )
    own = F.when(F.col("source") != INVESTIGATION, F.lit(True))
    return (
        known.join(F.broadcast(transactions.select("transaction_id")), "transaction_id")
        .groupBy("transaction_id")
        .agg(
            F.max_by("is_fraud", F.struct("label_time", "ingest_time", "source")).alias("is_fraud"),
            F.max(own).alias("is_labelled"),
        )
    )


def _is_mature(day: date, night: date, share: float, maturity_days: int | None) -> bool:
    if maturity_days is None:
        return share >= MATURE_SHARE
    return night + timedelta(days=maturity_days + 1) <= day


def candidate_name(model_version: str | None) -> str:
    """Return the name of a model version in the table `metrics`."""
    return f"version_{model_version}"


def latest_metrics(source: ReportSource, model_version: str | None) -> list[EvaluationMetric]:
    """Return the metrics of this model's newest evaluation, else of any model's newest."""
    rows: list[Any] = (
        source.lake.read(METRICS)
        .orderBy(F.desc("evaluated_at"), "run_id", "model", "name")
        .limit(METRIC_ROWS)
        .collect()
    )
    name = candidate_name(model_version)
    own_runs = [row["run_id"] for row in rows if row["model"] == name]
    newest = (own_runs or [row["run_id"] for row in rows] or [None])[0]
    return [
        EvaluationMetric(
            row["model"],
            row["first_date"],
            row["last_date"],
            row["name"],
            row["value"],
            row["interval_low"],
            row["interval_high"],
        )
        for row in rows
        if row["run_id"] == newest
    ]
