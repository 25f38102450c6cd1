"""Calibrate a trained model on its validation nights: rarities, scores and alert thresholds.

The validation nights pass through the same code as nights that are scored. Quantiles come from
Spark's mergeable sketches. The rank of each quantile is exact up to 1 / `RANK_ACCURACY` of the
validation events.
"""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from feature_defs.labels import known_before
from fraud_models.config import BY_RARITY
from fraud_models.registry.checkpoint import load_checkpoint, save_checkpoint
from fraud_models.scoring.calibration import MAX_CARDS_PER_NIGHT, PROBABILITIES, Calibration
from fraud_models.scoring.rarity import Rarities
from fraud_models.scoring.scorer import error_stream, rank_stream
from fraud_models.scoring.trained_model import TrainedModel
from jobs.models.contexts import (
    RANKED_FIELDS,
    apply_stream,
    context_dates,
    context_stream,
)
from jobs.models.executor_functions import ModelStream, StoredModel
from jobs.models.training_plan import TrainingInputs

RANK_ACCURACY = 1_000_000
# Lower, because each ranked column has its own sketch and all of them are in memory at once.
COLUMN_RANK_ACCURACY = 100_000


def calibrate(
    features: DataFrame, inputs: TrainingInputs, trained: StoredModel, scratch: str
) -> TrainedModel:
    """Return a trained model with its rarities and its calibration, ready to score.

    `scratch` is a folder for the model with rarities, which executors need to rank the nights.
    """
    checkpoint = load_checkpoint(trained.uri, trained.sha256)
    nights = _validation_nights(features, inputs)
    if checkpoint.config.ranking == BY_RARITY:
        checkpoint = replace(checkpoint, rarities=_rarities(nights, checkpoint, trained))
        trained = StoredModel(scratch, save_checkpoint(scratch, checkpoint))
    return replace(checkpoint, calibration=_calibration(nights, trained))


def _validation_nights(features: DataFrame, inputs: TrainingInputs) -> DataFrame:
    plan = inputs.plan
    dates = context_dates(plan.validation, plan.config)
    before = F.col("event_time") < F.lit(known_before(plan.as_of))
    events = features.where(F.expr(dates.sql) & before)
    return context_stream(events, plan.validation, plan.config, role=F.lit(1))


def _quantiles(name: str, accuracy: int) -> Column:
    probabilities = F.array(*(F.lit(float(probability)) for probability in PROBABILITIES))
    return F.percentile_approx(name, probabilities, accuracy)


def _rarities(nights: DataFrame, checkpoint: TrainedModel, trained: StoredModel) -> Rarities:
    config = checkpoint.config
    added = ", ".join(f"`{name}` double" for name in config.ranked)
    errors = apply_stream(nights, ModelStream(error_stream, trained), added)
    row = errors.agg(
        F.count("*").alias("num_rows"),
        *(_quantiles(name, COLUMN_RANK_ACCURACY).alias(name) for name in config.ranked),
    ).collect()[0]
    quantiles = {name: row[name] for name in config.ranked}
    return Rarities.fit(quantiles, row["num_rows"], config.rarity_weights)


def _calibration(nights: DataFrame, trained: StoredModel) -> Calibration:
    ranked = apply_stream(nights, ModelStream(rank_stream, trained), RANKED_FIELDS)
    ranked = ranked.select("business_date", "card_id", "ranking_value").persist()
    try:
        quantiles = _quantiles("ranking_value", RANK_ACCURACY).alias("quantiles")
        row = ranked.agg(quantiles, F.count("*").alias("num_rows")).collect()[0]
        fitted = Calibration.fit(PROBABILITIES, row["quantiles"], row["num_rows"])
        return fitted.with_alert_thresholds(_top_scores(ranked, fitted))
    finally:
        ranked.unpersist()


def _top_scores(ranked: DataFrame, calibration: Calibration) -> list[list[float]]:
    """Return the highest card scores per night, at most `MAX_CARDS_PER_NIGHT` of each night."""
    per_card = ranked.groupBy("business_date", "card_id").agg(
        F.max("ranking_value").alias("ranking_value")
    )
    highest = Window.partitionBy("business_date").orderBy(F.desc("ranking_value"))
    rows = (
        per_card.withColumn("rank", F.row_number().over(highest))
        .where(F.col("rank") <= MAX_CARDS_PER_NIGHT)
        .groupBy("business_date")
        .agg(F.collect_list("ranking_value").alias("values"))
        .collect()
    )
    return [calibration.score(row["values"]).tolist() for row in rows]
