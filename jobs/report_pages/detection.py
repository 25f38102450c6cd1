"""Which alerts of earlier nights turned out to be fraud, as far as labels are known by now.

A night counts once its labels have matured at 00:00 UTC of the report's date: when nearly all
transactions of its alerted cards have a label of their own, or, where only frauds are labelled,
when the days are over after which no label means genuine. Labels by investigators say what an
alert was, but not that a night is mature: they exist for alerts alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.labels import known_before
from jobs.lake.tables import ALERTS, LABELS, TRANSACTIONS
from jobs.report_pages.readings import HISTORY_NIGHTS, Place

# Labels of a night may take as long as a month; this many days back are searched.
LABEL_SEARCH_DAYS = 60
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
