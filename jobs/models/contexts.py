"""Each night's events in the contexts that models read: sorted streams for Arrow functions.

The context of a night is the card's events since the start of the period before its own, so an
event serves at most two contexts: that of its own period, where it may be scored, and that of
the next, where it only warms the model up. One shuffle by (card, period), one sort.
"""

from __future__ import annotations

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
from jobs.lake.tables import FEATURES_TABLE
from jobs.models.executor_functions import ModelStream, StoredModel
from jobs.models.model_store import read_checkpoint

SORTED_BY = ("card_id", "period", "event_time", "transaction_id")
RANKED_FIELDS = "reconstruction_error double, ranking_value double"
SCORED_FIELDS = (
    f"{RANKED_FIELDS}, score double, reasons "
    "array<struct<feature:string,observed:double,expected:double,contribution:double>>, "
    "num_context_events int"
)


def context_dates(dates: Dates, config: ModelConfig) -> Dates:
    """Dates whose events the contexts of these nights can hold."""
    return Dates(context_start(dates.first, config.context_period_days), dates.last)


def read_contexts(lake: Lake, dates: Dates, version: int, config: ModelConfig) -> DataFrame:
    """Features of all events in the contexts of these nights, those that came late included."""
    reach = context_dates(dates, config)
    last = reach.last + timedelta(days=lake.settings.late_days)
    return lake.read(FEATURES_TABLE, version).where(F.expr(Dates(reach.first, last).sql))


def context_stream(
    features: DataFrame, dates: Dates, config: ModelConfig, role: Column
) -> DataFrame:
    """Events in the contexts of these nights, sorted for `fraud_models.sequences.event_batch`.

    `features` holds the rows of `read_contexts`. `role` says what an event is in the context of
    its own period (0 context only, 1 target, 2 validation target); rows of other nights and
    events that were carried over from the period before are context only.
    """
    length = config.context_period_days
    first = period_of(dates.first, length)
    last = period_of(dates.last, length)
    period = F.floor(F.datediff("business_date", F.lit(date(1970, 1, 1))) / length).cast("int")
    own = features.withColumn("period", period).withColumn(
        "role", F.when(F.expr(dates.sql), role).otherwise(F.lit(0)).cast("int")
    )
    # A row that came late may have happened before the period that its delivery lies in.
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
    """Map a sorted stream; the result has the keys and the `added` columns (Spark DDL)."""
    keys = stream.select(*KEYS).schema
    parsed = StructType.fromDDL(added)
    assert isinstance(parsed, StructType)
    schema = StructType([*keys.fields, *parsed.fields])
    return stream.mapInArrow(function, schema)


def score_nights(lake: Lake, dates: Dates, version: int, model: ModelVersion) -> DataFrame:
    """Scores of all transactions of these nights, each once, with `in_sample`.

    Raises:
        InputMissing: the columns of the model are not those of the context's nights.
    """
    checkpoint = read_checkpoint(model)
    config = checkpoint.config
    reach = context_dates(dates, config)
    checkpoint.check_columns(feature_fingerprints(lake, reach))
    stream = context_stream(
        read_contexts(lake, dates, version, config), dates, config, role=F.lit(1)
    )
    function = ModelStream(score_stream, StoredModel(model.uri, model.sha256))
    scored = apply_stream(stream, function, SCORED_FIELDS)
    # A model trained as of a day has seen the nights before that day.
    trained_on = F.col("business_date") < F.lit(checkpoint.as_of).cast("date")
    return scored.withColumn("in_sample", trained_on)
