"""Choose the cards that people look at this morning.

Reads   scores[business_date] at the night's pin
Writes  alerts[business_date] (one commit that replaces the date)

One alert per card, its top transaction, when the score passes the model's threshold for the
alert budget and its rank is at most the budget. Ties are broken by `transaction_id`.

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
    """Choose and publish the alerts of a night; those that were shown stay as they are.

    Raises:
        InputMissing: the night has no published scores.
    """
    night.require_finished("publish")
    if "alerts" in night.finished:
        log_event(f"the alerts of {night.dates} were shown and stay; nothing changes")
        return
    lake, dates = night.lake, night.dates
    budget = lake.settings.alert_budget
    with night.job("alerts", {"alert_budget": budget}) as run:
        assert night.model_version is not None, "scores were published, so a model made them"
        model = open_registry(lake).resolve(night.model_version)
        calibration = read_checkpoint(model).calibration
        assert calibration is not None, "scores were published, so the model is calibrated"
        threshold = calibration.threshold_for(budget)
        run.model_version = night.model_version
        run.versions_in[SCORES.name] = night.pin(SCORES.name)
        scores = lake.read(SCORES, night.pin(SCORES.name)).where(F.expr(dates.sql))
        chosen = choose(scores, threshold, budget)
        night.publish(ALERTS, chosen.coalesce(1), run)
        run.rows["alerts"] = (
            lake.read(ALERTS, run.versions_out[ALERTS.name]).where(F.expr(dates.sql)).count()
        )
        run.figures = {"threshold": threshold, "alert_budget": budget}


def choose(scores: DataFrame, threshold: float, budget: int) -> DataFrame:
    """The alerts of each night of `scores`, in the order of the table.

    Cards are aggregated before they are ranked, and only the budget's worth of each night is
    ever sorted in one place.
    """
    # A struct compares field by field; the smaller id wins a tie, hence the separate minimum.
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
