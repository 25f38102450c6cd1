"""Fit baselines on a model's training days and apply them as Spark columns over the features.

Each baseline is fitted on the driver, on a bounded sample: the transactions with the smallest
hashes. The sample therefore does not depend on the partitions. The fit uses the model's own seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
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
from fraud_models.sequences.context_blocks import Vocabularies
from jobs.lake.dates import Dates
from jobs.models.model_store import read_checkpoint

Floats = npt.NDArray[np.float64]

ISOLATION_FOREST, BOOSTED_TREES = "isolation_forest", "boosted_trees"
# A forest samples 256 rows per tree, so this many rows suffice for any number of cards.
FOREST_SAMPLE_ROWS = 50_000
# Limit per class. Sampling the genuine rows shifts all log odds equally and keeps their order.
TREES_SAMPLE_ROWS = 300_000


def isolation_forest(features: DataFrame, model: ModelVersion) -> Column:
    """Return the anomaly score of an isolation forest over all columns that models can read.

    It also reads the model's categories, as codes of the model's vocabularies.
    """
    checkpoint = read_checkpoint(model)
    vocabularies = checkpoint.encoding.vocabularies
    further = [name for name in vocabularies if name not in CARD_EVENTS.columns]
    columns = (*CARD_EVENTS.columns, *further)
    categorical = _places(columns, vocabularies)
    trained_on = features.where(F.expr(_training_dates(checkpoint).sql))
    sample = _values(_sample(trained_on, FOREST_SAMPLE_ROWS), columns, vocabularies)
    seed = checkpoint.config.optimisation.seed
    forest = fit_isolation_forest(sample, seed, categorical)
    return _as_column(
        lambda values: forest_scores(forest, values, categorical), columns, vocabularies
    )


def boosted_trees(inputs: FeatureInputs, model: ModelVersion) -> Column:
    """Return the log odds of gradient-boosted trees over the columns that the model reads.

    `inputs.transactions` is the table `features`. The trees learn from the model's training days,
    with the labels that were mature when the model was trained.

    Raises:
        InputMissing: these labels include no fraud, or no genuine transaction.
    """
    checkpoint = read_checkpoint(model)
    columns, vocabularies = checkpoint.encoding.columns, checkpoint.encoding.vocabularies
    categorical = _places(columns, vocabularies)
    days = _training_dates(checkpoint)
    moment = known_before(date.fromisoformat(checkpoint.as_of))
    labels = labels_as_of(inputs, moment).select("transaction_id", "is_fraud")
    events = inputs.transactions.where(F.expr(days.sql) & (F.col("event_time") < F.lit(moment)))
    labelled = events.join(labels, "transaction_id")
    parts = [
        _values(_sample(labelled.where(kind), TREES_SAMPLE_ROWS), columns, vocabularies)
        for kind in (F.col("is_fraud"), ~F.col("is_fraud"))
    ]
    if not all(map(len, parts)):
        raise InputMissing(
            f"Of the events of {days}, {len(parts[0])} were labelled fraud and "
            f"{len(parts[1])} genuine on {checkpoint.as_of}.",
            expected="labels of both classes, so that the trees can learn.",
            remedy="start the backtest later, or ingest the labels.",
        )
    frauds = [True] * len(parts[0]) + [False] * len(parts[1])
    seed = checkpoint.config.optimisation.seed
    trees = fit_boosted_trees(np.concatenate(parts), frauds, seed, categorical)
    return _as_column(
        lambda values: boosted_scores(trees, values, categorical), columns, vocabularies
    )


def _training_dates(checkpoint: TrainedModel) -> Dates:
    days = training_days(date.fromisoformat(checkpoint.as_of), checkpoint.config)
    return Dates(days.train_from, days.as_of - timedelta(days=1))


def _sample(rows: DataFrame, num_rows: int) -> DataFrame:
    return rows.orderBy(F.xxhash64("transaction_id"), "transaction_id").limit(num_rows)


def _places(columns: Sequence[str], vocabularies: Vocabularies) -> list[int]:
    """Return the indices of the columns that have a vocabulary."""
    return [index for index, name in enumerate(columns) if name in vocabularies]


def _selected(columns: Sequence[str], vocabularies: Vocabularies) -> list[Column]:
    """Return the columns as the baselines' functions expect them: categories as text."""
    return [
        F.col(name).cast("string" if name in vocabularies else "double").alias(name)
        for name in columns
    ]


def _values(rows: DataFrame, columns: Sequence[str], vocabularies: Vocabularies) -> Floats:
    frame = rows.select(*_selected(columns, vocabularies)).toPandas()
    return _numbers([frame[name] for name in columns], columns, vocabularies)


def _numbers(
    values: Sequence[pd.Series], columns: Sequence[str], vocabularies: Vocabularies
) -> Floats:
    """Return values [N, F] of series in the order of `columns`: numbers, and codes of texts."""
    numbers = [
        vocabularies[name].codes(pa.array(series, pa.string(), from_pandas=True))
        if name in vocabularies
        else series.to_numpy(dtype=np.float64)
        for name, series in zip(columns, values, strict=True)
    ]
    stacked: Floats = np.stack(numbers, axis=1, dtype=np.float64)
    return stacked


def _as_column(
    function: Callable[[Floats], Floats], columns: Sequence[str], vocabularies: Vocabularies
) -> Column:
    def values_to_scores(*values: pd.Series) -> pd.Series:
        return pd.Series(function(_numbers(values, columns, vocabularies)))

    # The type stubs only cover functions with a fixed number of columns.
    score = pandas_udf(values_to_scores, "double")  # type: ignore[call-overload]
    scored: Column = score(*_selected(columns, vocabularies))
    return scored
