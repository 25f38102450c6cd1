"""Add the ranking values of candidates (models and baselines) to the rows of an evaluation.

Each candidate adds one column to the same rows, so that their metrics are comparable.
"""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_defs.point_in_time.labels_as_of import FeatureInputs
from fraud_models.registry.mlflow_registry import ModelVersion
from jobs.evaluation.baselines import (
    BOOSTED_TREES,
    ISOLATION_FOREST,
    boosted_trees,
    isolation_forest,
)
from jobs.evaluation.eligible_rows import EvaluationTables
from jobs.lake.dates import Dates
from jobs.models.contexts import ScoringInputs, score_contexts

ROW_KEYS = ["business_date", "transaction_id"]


def add_ranking_values(rows: DataFrame, models: Mapping[str, ScoringInputs]) -> DataFrame:
    """Add a column with the ranking values of each model, named by its key in `models`."""
    for name, inputs in models.items():
        values = score_contexts(inputs).select(*ROW_KEYS, F.col("ranking_value").alias(name))
        rows = rows.join(values, ROW_KEYS)
    return rows


def add_isolation_forest(
    rows: DataFrame, tables: EvaluationTables, model: ModelVersion, dates: Dates
) -> DataFrame:
    """Add the anomaly scores of an isolation forest fitted on the model's training days."""
    anomaly = isolation_forest(tables.features, model).alias(ISOLATION_FOREST)
    return _add_column(rows, tables.features, anomaly, dates)


def add_boosted_trees(
    rows: DataFrame, tables: EvaluationTables, model: ModelVersion, dates: Dates
) -> DataFrame:
    """Add the log odds of boosted trees, fitted on the model's columns and its mature labels."""
    inputs = FeatureInputs(tables.features, tables.labels, tables.label_policy)
    odds = boosted_trees(inputs, model).alias(BOOSTED_TREES)
    return _add_column(rows, tables.features, odds, dates)


def _add_column(rows: DataFrame, features: DataFrame, column: Column, dates: Dates) -> DataFrame:
    return rows.join(features.where(F.expr(dates.sql)).select(*ROW_KEYS, column), ROW_KEYS)
