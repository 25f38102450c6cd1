"""What past runs of `ingest` recorded: source, mapping, column types, label policy."""

from __future__ import annotations

import json
from datetime import datetime

from pyspark.sql import functions as F

from feature_defs.errors import InputMissing, UsageError
from feature_defs.labels import LabelPolicy
from jobs.deliveries.mapping import Mapping, load_mapping
from jobs.deliveries.source import Delivery
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run
from jobs.lake.tables import NIGHTS, RUNS


def recorded_delivery(lake: Lake) -> Delivery:
    """Return the delivery that the lake's first `ingest` recorded.

    Raises:
        InputMissing: the lake has no record of an `ingest`.
    """
    rows = (
        lake.read(RUNS)
        .where((F.col("job") == "ingest") & (F.col("status") == "done"))
        .orderBy("started_at")
        .select("arguments")
        .head(1)
    )
    if rows:
        return delivery_from_arguments(json.loads(rows[0]["arguments"]))
    newest = newest_ingest(lake)
    if newest is None:
        raise InputMissing(
            f"The lake {lake.uri} has no record of an `ingest`, so the source is unknown.",
            expected="a source in the configuration, or a lake with an earlier `ingest`.",
            remedy="run `fraud-scoring ingest --source … --format … --mapping …` first.",
        )
    return delivery_from_arguments(newest.arguments)


def delivery_from_arguments(arguments: dict[str, object]) -> Delivery:
    """Return the delivery described by the recorded arguments of an `ingest`."""
    mapping = Mapping.model_validate_json(str(arguments["mapping_content"]))
    return Delivery(str(arguments["source"]), arguments["format"], mapping)  # type: ignore[arg-type]


def newest_ingest(lake: Lake) -> Run | None:
    """Return the record of the newest finished `ingest`, or None.

    The record is read from `nights`, which has it earlier than `runs`.
    """
    record = F.col("jobs")["ingest"]
    started = F.get_json_object(record, "$.started_at")
    newest = lake.read(NIGHTS).agg(F.max_by(record, started).alias("record")).head()
    return Run.from_json(newest["record"]) if newest and newest["record"] else None


def previous_column_types(lake: Lake, delivery: Delivery) -> dict[str, dict[str, str]]:
    """Return the mapped columns' types in the newest `ingest`, by source table and column.

    The result is empty if that `ingest` used another mapping or another format.
    """
    newest = newest_ingest(lake) if lake.is_lake() else None
    if newest is None:
        return {}
    arguments = newest.arguments
    if (arguments["mapping"], arguments["format"]) != (delivery.mapping.name, delivery.format):
        return {}
    types: dict[str, dict[str, str]] = newest.figures.get("source_types", {})
    return types


def default_delivery(lake: Lake) -> Delivery:
    """Return the delivery in the settings, or else the one that the first `ingest` recorded.

    Raises:
        UsageError: the settings have a source, but not its format and mapping.
        InputMissing: neither the settings nor the lake name a source.
    """
    settings = lake.settings
    if settings.source is None:
        return recorded_delivery(lake)
    if settings.source_format is None or settings.mapping is None:
        raise UsageError(
            f"The settings give the source {settings.source}, but not how to read it.",
            expected="`source`, `source_format` and `mapping` together.",
            remedy="add the missing settings to the configuration, or remove all three.",
        )
    return Delivery(settings.source, settings.source_format, load_mapping(settings.mapping))


def label_policy(lake: Lake) -> LabelPolicy:
    """Return the label policy of the newest `ingest`; the default policy in an empty lake."""
    newest = newest_ingest(lake)
    if newest is None:
        return LabelPolicy()
    return delivery_from_arguments(newest.arguments).mapping.label_policy


def label_policy_at(lake: Lake, moment: datetime) -> LabelPolicy:
    """Return the label policy of the newest `ingest` that started before `moment`."""
    is_finished_ingest = (F.col("job") == "ingest") & (F.col("status") == "done")
    from_runs = lake.read(RUNS).where(is_finished_ingest).select("started_at", "arguments")
    record = F.col("jobs")["ingest"]
    from_nights = lake.read(NIGHTS).select(
        F.get_json_object(record, "$.started_at").cast("timestamp").alias("started_at"),
        F.get_json_object(record, "$.arguments").alias("arguments"),
    )
    before = from_runs.unionByName(from_nights).where(F.col("started_at") < F.lit(moment))
    newest = before.agg(F.max_by("arguments", "started_at").alias("arguments")).head()
    if newest is None or newest["arguments"] is None:
        return LabelPolicy()
    return delivery_from_arguments(json.loads(newest["arguments"])).mapping.label_policy
