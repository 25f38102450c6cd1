"""Fit baselines on a model's training days and apply them as Spark columns over the features.

Each baseline is fitted on the driver, on a bounded sample: the transactions with the smallest
hashes. The sample therefore does not depend on the partitions. The fit uses the model's own seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import numpy.typing as npt
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from feature_defs.errors import InputMissing
from feature_defs.labels import known_before
from feature_defs.point_in_time.labels_as_of import FeatureInputs, labels_as_of
from feature_defs.sequences import CARD_EVENTS
from fraud_models.evaluation.baselines import (
    boosted_scores,
    fit_boosted_trees,
    fit_isolation_forest,
    forest_scores,
)
from fraud_models.evaluation.splits import training_days
from fraud_models.registry.mlflow_registry import ModelVersion
from fraud_models.scoring.trained_model import TrainedModel
from jobs.lake.dates import Dates
from jobs.models.model_store import read_checkpoint

ISOLATION_FOREST, BOOSTED_TREES = "isolation_forest", "boosted_trees"
# A forest samples 256 rows per tree, so this many rows suffice for any number of cards.
FOREST_SAMPLE_ROWS = 50_000
# Limit per class. Sampling the genuine rows shifts all log odds equally and keeps their order.
TREES_SAMPLE_ROWS = 300_000


def isolation_forest(features: DataFrame, model: ModelVersion) -> Column:
    """Return the anomaly score of an isolation forest over all columns that models can read."""
    checkpoint = read_checkpoint(model)
    columns = CARD_EVENTS.columns
    trained_on = features.where(F.expr(_training_dates(checkpoint).sql))
    sample = _values(_sample(trained_on, FOREST_SAMPLE_ROWS), columns)
    forest = fit_isolation_forest(sample.to_numpy(), checkpoint.config.optimisation.seed)
    return _as_column(lambda values: forest_scores(forest, values), columns)


def boosted_trees(inputs: FeatureInputs, model: ModelVersion) -> Column:
    """Return the log odds of gradient-boosted trees over the columns that the model reads.

    `inputs.transactions` is the table `features`. The trees learn from the model's training days,
    with the labels that were mature when the model was trained.

    Raises:
        InputMissing: these labels include no fraud, or no genuine transaction.
    """
    checkpoint = read_checkpoint(model)
    columns = checkpoint.encoding.columns
    days = _training_dates(checkpoint)
    moment = known_before(date.fromisoformat(checkpoint.as_of))
    labels = labels_as_of(inputs, moment).select("transaction_id", "is_fraud")
    events = inputs.transactions.where(F.expr(days.sql) & (F.col("event_time") < F.lit(moment)))
    labelled = events.join(labels, "transaction_id")
    parts = [
        _values(_sample(labelled.where(kind), TREES_SAMPLE_ROWS), columns)
        for kind in (F.col("is_fraud"), ~F.col("is_fraud"))
    ]
    if any(part.empty for part in parts):
        raise InputMissing(
            f"Of the events of {days}, {len(parts[0])} were labelled fraud and "
            f"{len(parts[1])} genuine on {checkpoint.as_of}.",
            expected="labels of both classes, so that the trees can learn.",
            remedy="start the backtest later, or ingest the labels.",
        )
    frauds = [True] * len(parts[0]) + [False] * len(parts[1])
    seed = checkpoint.config.optimisation.seed
    trees = fit_boosted_trees(pd.concat(parts).to_numpy(), frauds, seed)
    return _as_column(lambda values: boosted_scores(trees, values), columns)


def _training_dates(checkpoint: TrainedModel) -> Dates:
    days = training_days(date.fromisoformat(checkpoint.as_of), checkpoint.config)
    return Dates(days.train_from, days.as_of - timedelta(days=1))


def _sample(rows: DataFrame, num_rows: int) -> DataFrame:
    return rows.orderBy(F.xxhash64("transaction_id"), "transaction_id").limit(num_rows)


def _values(rows: DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    return rows.select(*(F.col(name).cast("double") for name in columns)).toPandas()


def _as_column(
    function: Callable[[npt.ArrayLike], npt.ArrayLike], columns: Sequence[str]
) -> Column:
    def values_to_scores(*values: pd.Series) -> pd.Series:
        return pd.Series(function(pd.concat(values, axis=1).to_numpy()))

    # The type stubs only cover functions with a fixed number of columns.
    score = pandas_udf(values_to_scores, "double")  # type: ignore[call-overload]
    scored: Column = score(*(F.col(name).cast("double") for name in columns))
    return scored
