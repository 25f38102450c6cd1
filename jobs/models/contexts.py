"""Build the contexts that models read: sorted streams of events for Arrow functions.

The context of a night contains the card's events since the start of the previous period. An event
is therefore in at most two contexts: that of its own period, where it can be scored, and that of
the next period, where it only serves as history. The cost is one shuffle by (card, period) and
one sort.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from feature_defs.context_periods import context_start, period_of
from feature_defs.sources import KEYS
from fraud_models.config import ModelConfig
from fraud_models.registry.mlflow_registry import ModelVersion
from fraud_models.scoring.scorer import score_stream
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.run_history import feature_fingerprints
from jobs.lake.tables import FEATURES_TABLE, REASON
from jobs.models.executor_functions import ModelStream, StoredModel
from jobs.models.model_store import read_checkpoint

SORTED_BY = ("card_id", "period", "event_time", "transaction_id")
RANKED_FIELDS = "reconstruction_error double, ranking_value double"
SCORED_FIELDS = f"{RANKED_FIELDS}, score double, reasons array<{REASON}>, num_context_events int"


def context_dates(dates: Dates, config: ModelConfig) -> Dates:
    """Return the dates whose events can be in the contexts of these nights."""
    return Dates(context_start(dates.first, config.context_period_days), dates.last)


def read_contexts(lake: Lake, dates: Dates, version: int, config: ModelConfig) -> DataFrame:
    """Read the features of all events in the contexts of these nights, including late arrivals."""
    in_context = context_dates(dates, config)
    last = in_context.last + timedelta(days=lake.settings.late_days)
    return lake.read(FEATURES_TABLE, version).where(F.expr(Dates(in_context.first, last).sql))


def context_stream(
    features: DataFrame, dates: Dates, config: ModelConfig, role: Column
) -> DataFrame:
    """Return the events in the contexts of these nights, sorted for `event_batch`.

    `features` are the rows of `read_contexts`. `role` is the role of an event in the context of
    its own period: 0 context only, 1 target, 2 validation target. Events of other nights, and
    events carried over from the previous period, are context only.
    """
    length = config.context_period_days
    first = period_of(dates.first, length)
    last = period_of(dates.last, length)
    period = F.floor(F.datediff("business_date", F.lit(date(1970, 1, 1))) / length).cast("int")
    own = features.withColumn("period", period).withColumn(
        "role", F.when(F.expr(dates.sql), role).otherwise(F.lit(0)).cast("int")
    )
    # A late row can have an event time before the period of its delivery.
    begins = F.col("period").cast("bigint") * length
    happened = F.datediff(F.to_date("event_time"), F.lit(date(1970, 1, 1)))
    carried = (
        own.where(happened >= begins)
        .withColumn("period", F.col("period") + 1)
        .withColumn("role", F.lit(0))
    )
    served = own.unionByName(carried).where(F.col("period").between(first, last))
    columns = [*KEYS, "period", "role", *config.columns]
    return served.select(*columns).repartition("card_id", "period").sortWithinPartitions(*SORTED_BY)


def apply_stream(stream: DataFrame, function: ModelStream, added: str) -> DataFrame:
    """Apply a function to a sorted stream; it returns the keys and the columns `added` (DDL)."""
    keys = stream.select(*KEYS).schema
    parsed = StructType.fromDDL(added)
    assert isinstance(parsed, StructType)
    schema = StructType([*keys.fields, *parsed.fields])
    return stream.mapInArrow(function, schema)


@dataclass(frozen=True)
class ScoringInputs:
    """Inputs for scoring some nights: the features of their contexts, and the model."""

    dates: Dates
    features: DataFrame
    model: StoredModel
    config: ModelConfig
    as_of: date
    """The model was trained on nights before this one."""


def read_scoring_inputs(
    lake: Lake, dates: Dates, version: int, model: ModelVersion
) -> ScoringInputs:
    """Read a model and the features of its contexts, at this version of `features`.

    Raises:
        InputMissing: the model is damaged, or the context's nights lack columns that it reads;
            build their features again, or promote another model.
    """
    trained = read_checkpoint(model)
    trained.check_columns(feature_fingerprints(lake, context_dates(dates, trained.config)))
    return ScoringInputs(
        dates,
        read_contexts(lake, dates, version, trained.config),
        StoredModel(model.uri, model.sha256),
        trained.config,
        date.fromisoformat(trained.as_of),
    )


def score_contexts(inputs: ScoringInputs) -> DataFrame:
    """Return the scores of all transactions of the nights, one row each, with `in_sample`."""
    stream = context_stream(inputs.features, inputs.dates, inputs.config, role=F.lit(1))
    scored = apply_stream(stream, ModelStream(score_stream, inputs.model), SCORED_FIELDS)
    return scored.withColumn("in_sample", F.col("business_date") < F.lit(inputs.as_of))


def score_nights(lake: Lake, dates: Dates, version: int, model: ModelVersion) -> DataFrame:
    """Read the inputs of a model for some nights and score them.

    Raises:
        InputMissing: as `read_scoring_inputs`.
    """
    return score_contexts(read_scoring_inputs(lake, dates, version, model))
