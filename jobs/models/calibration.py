"""What a trained model makes of its validation nights: rarities, scores and alert thresholds.

The nights go the way that scores them. Quantiles are Spark's mergeable sketches: each one asked
for is a value whose rank is off by at most one in `RANK_ACCURACY` of the validation events.
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
from jobs.lake.delta_io import Lake
from jobs.lake.tables import FEATURES_TABLE
from jobs.models.contexts import (
    RANKED_FIELDS,
    apply_stream,
    context_dates,
    context_stream,
)
from jobs.models.executor_functions import ModelStream, StoredModel
from jobs.models.training_plan import TrainingInputs

RANK_ACCURACY = 1_000_000
# There is a sketch per column of these; the memory of all of them together grows with it.
COLUMN_RANK_ACCURACY = 100_000


def calibrated(
    lake: Lake, inputs: TrainingInputs, trained: StoredModel, scratch: str
) -> TrainedModel:
    """A trained model with everything that it takes to score.

    `scratch` is a folder for the model with its rarities, which ranks the nights once more.
    """
    checkpoint = load_checkpoint(trained.uri, trained.sha256)
    nights = _validation_nights(lake, inputs)
    if checkpoint.config.ranking == BY_RARITY:
        checkpoint = replace(checkpoint, rarities=_rarities(nights, checkpoint, trained))
        trained = StoredModel(scratch, save_checkpoint(scratch, checkpoint))
    return replace(checkpoint, calibration=_calibration(nights, trained))


def _validation_nights(lake: Lake, inputs: TrainingInputs) -> DataFrame:
    plan = inputs.plan
    reach = context_dates(plan.validation, plan.config)
    features = lake.read(FEATURES_TABLE, inputs.versions[FEATURES_TABLE.name]).where(
        F.expr(reach.sql) & (F.col("event_time") < F.lit(known_before(plan.as_of)))
    )
    return context_stream(features, plan.validation, plan.config, role=F.lit(1))


def _quantiles(name: str, accuracy: int) -> Column:
    wanted = F.array(*(F.lit(float(probability)) for probability in PROBABILITIES))
    return F.percentile_approx(name, wanted, accuracy)


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
    """Per night the scores of its oddest cards; bounded by nights and the table's length."""
    per_card = ranked.groupBy("business_date", "card_id").agg(
        F.max("ranking_value").alias("ranking_value")
    )
    oddest = Window.partitionBy("business_date").orderBy(F.desc("ranking_value"))
    rows = (
        per_card.withColumn("rank", F.row_number().over(oddest))
        .where(F.col("rank") <= MAX_CARDS_PER_NIGHT)
        .groupBy("business_date")
        .agg(F.collect_list("ranking_value").alias("values"))
        .collect()
    )
    return [calibration.score(row["values"]).tolist() for row in rows]
