"""The judged rows with the ranking values of models and baselines."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from fraud_models.registry.mlflow_registry import ModelVersion
from jobs.evaluation.baselines import ISOLATION_FOREST, isolation_forest
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run
from jobs.lake.tables import FEATURES_TABLE
from jobs.models.contexts import score_nights


def with_values(
    lake: Lake, judged: DataFrame, models: dict[str, ModelVersion], dates: Dates, run: Run
) -> DataFrame:
    """The judged rows with the ranking value of each model."""
    version = run.versions_in[FEATURES_TABLE.name]
    keys = ["business_date", "transaction_id"]
    rows = judged
    for name, model in models.items():
        scored = score_nights(lake, dates, version, model)
        rows = rows.join(scored.select(*keys, F.col("ranking_value").alias(name)), keys)
    return rows


def with_forest(
    lake: Lake, rows: DataFrame, model: ModelVersion, dates: Dates, run: Run
) -> DataFrame:
    """The rows with how odd an isolation forest of the model's training days finds them."""
    features = lake.read(FEATURES_TABLE, run.versions_in[FEATURES_TABLE.name])
    odd = isolation_forest(features, model).alias(ISOLATION_FOREST)
    return with_column_of(features, rows, odd, dates)


def with_column_of(features: DataFrame, rows: DataFrame, column: Column, dates: Dates) -> DataFrame:
    """The rows of some nights with a column that is made of their features."""
    keys = ["business_date", "transaction_id"]
    return rows.join(features.where(F.expr(dates.sql)).select(*keys, column), keys)
