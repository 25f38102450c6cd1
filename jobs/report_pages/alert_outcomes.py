"""Which alerts of earlier nights turned out to be fraud, as far as labels are known by now.

A night counts once its labels have matured at 00:00 UTC of the report's date: when nearly all
transactions of its alerted cards have a label of their own, or, where only frauds are labelled,
when the days are over after which no label means genuine. Labels by investigators say what an
alert was, but not that a night is mature: they exist for alerts alone.

Until a night has matured, the page shows the model's latest evaluation in place of these.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.labels import known_before
from jobs.lake.tables import ALERTS, LABELS, METRICS, TRANSACTIONS
from jobs.report_pages.page_data import HISTORY_NIGHTS, Place

# Labels of a night may take as long as a month; this many days back are searched.
LABEL_SEARCH_DAYS = 60
METRIC_ROWS = 500
MATURE_SHARE = 0.99
INVESTIGATION = "investigation"


@dataclass(frozen=True)
class Detected:
    """Alerts of one mature night, and the cards among them with a confirmed fraud that night."""

    day: date
    num_alerts: int
    num_frauds: int

    @property
    def precision(self) -> float:
        """Share of the alerted cards that were defrauded that night (CP@k)."""
        return self.num_frauds / self.num_alerts


@dataclass(frozen=True)
class Metric:
    """One figure of an evaluation."""

    model: str
    first_date: date
    last_date: date
    name: str
    value: float | None
    low: float | None
    high: float | None

    def is_of(self, model_version: str | None) -> bool:
        """Whether the figure is about this model version, by the name `evaluate` gives it."""
        return self.model == candidate_name(model_version)


def detected(place: Place, maturity_days: int | None) -> list[Detected]:
    """The last mature nights with alerts, oldest first."""
    alerted = (
        place.nights(ALERTS, LABEL_SEARCH_DAYS)
        .where(F.col("business_date") < F.lit(place.day))
        .select("business_date", "card_id")
    )
    transactions = place.nights(TRANSACTIONS, LABEL_SEARCH_DAYS).select(
        "business_date", "card_id", "transaction_id"
    )
    theirs = transactions.join(F.broadcast(alerted), ["business_date", "card_id"])
    labels = _labels(place, theirs)
    by_card = (
        theirs.join(F.broadcast(labels), "transaction_id", "left")
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
        Detected(row["business_date"], row["alerts"], row["frauds"])
        for row in rows
        if _mature(place.day, row["business_date"], row["share"], maturity_days)
    ][-HISTORY_NIGHTS:]


def _labels(place: Place, transactions: DataFrame) -> DataFrame:
    """The latest known label of each of these few transactions."""
    known = place.nights(LABELS, LABEL_SEARCH_DAYS).where(
        F.col("label_time") <= F.lit(known_before(place.day))
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


def _mature(day: date, night: date, share: float, maturity_days: int | None) -> bool:
    if maturity_days is None:
        return share >= MATURE_SHARE
    return night + timedelta(days=maturity_days + 1) <= day


def candidate_name(model_version: str | None) -> str:
    """What `evaluate` calls a model version in `metrics`."""
    return f"version_{model_version}"


def evaluation(place: Place, model_version: str | None) -> list[Metric]:
    """Figures of the newest evaluation that judged this model; of the newest one if none did."""
    rows: list[Any] = (
        place.lake.read(METRICS)
        .orderBy(F.desc("evaluated_at"), "run_id", "model", "name")
        .limit(METRIC_ROWS)
        .collect()
    )
    name = candidate_name(model_version)
    judged = [row["run_id"] for row in rows if row["model"] == name]
    newest = (judged or [row["run_id"] for row in rows] or [None])[0]
    return [
        Metric(
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
