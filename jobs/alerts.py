"""Select the cards that investigators check in the morning.

Reads   scores[business_date] at the night's pin
Writes  alerts[business_date] (one commit that replaces the date)

Each card has at most one alert, for its transaction with the highest score. A card is selected
when this score reaches the model's threshold for the alert budget and its rank is within the
budget. Ties are broken by `transaction_id`.

    fraud-scoring alerts --lake L --date 2018-08-08
"""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.lake.nights import Night
from jobs.lake.tables import ALERTS, SCORES
from jobs.models.model_store import open_registry, read_checkpoint
from jobs.runtime.logs import log_event


def run(night: Night) -> None:
    """Select and publish the alerts of a night; alerts that are published already never change.

    Raises:
        InputMissing: the night has no published scores.
    """
    night.require_finished("publish")
    if "alerts" in night.finished:
        log_event(f"the alerts of {night.dates} are already published and stay unchanged")
        return
    lake, dates = night.lake, night.dates
    budget = lake.settings.alert_budget
    with night.job("alerts", {"alert_budget": budget}) as run:
        assert night.model_version is not None, "published scores have a model"
        model = open_registry(lake).resolve(night.model_version)
        calibration = read_checkpoint(model).calibration
        assert calibration is not None, "a model with published scores is calibrated"
        threshold = calibration.threshold_for(budget)
        run.model_version = night.model_version
        run.versions_in[SCORES.name] = night.pin(SCORES.name)
        scores = lake.read(SCORES, night.pin(SCORES.name)).where(F.expr(dates.sql))
        selected = select_alerts(scores, threshold, budget)
        night.publish(ALERTS, selected.coalesce(1), run)
        run.rows["alerts"] = (
            lake.read(ALERTS, run.versions_out[ALERTS.name]).where(F.expr(dates.sql)).count()
        )
        run.figures = {"threshold": threshold, "alert_budget": budget}


def select_alerts(scores: DataFrame, threshold: float, budget: int) -> DataFrame:
    """Return the alerts of each night in `scores`, with the columns of `alerts`.

    Transactions are aggregated per card before cards are ranked, so no single task ever sorts
    more than the alert budget of a night.
    """
    # The minimum of this struct is the highest score; a tie goes to the smallest transaction id.
    top = (
        scores.where(F.col("score") >= threshold)
        .groupBy("business_date", "card_id")
        .agg(
            F.min_by(
                F.struct("transaction_id", "score", "ranking_value", "amount", "reasons"),
                F.struct(-F.col("score"), -F.col("ranking_value"), F.col("transaction_id")),
            ).alias("top")
        )
        .select("business_date", "card_id", "top.*")
    )
    best = Window.partitionBy("business_date").orderBy(
        F.desc("score"), F.desc("ranking_value"), F.asc("transaction_id")
    )
    ranked = top.withColumn("rank", F.row_number().over(best)).where(F.col("rank") <= budget)
    counts = scores.groupBy("business_date", "card_id").agg(
        F.count("*").cast("int").alias("num_transactions")
    )
    return (
        ranked.join(counts, ["business_date", "card_id"])
        .select(*ALERTS.column_names)
        .orderBy("business_date", "rank")
    )
