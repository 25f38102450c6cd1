"""What the lake remembers of earlier deliveries: their source, their mapping, their types."""

from __future__ import annotations

import json

from pyspark.sql import functions as F

from feature_defs.errors import InputMissing, UsageError
from jobs.deliveries.mapping import Mapping, load_mapping
from jobs.deliveries.source import Delivery
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run
from jobs.lake.tables import NIGHTS, RUNS


def recorded_delivery(lake: Lake) -> Delivery:
    """The delivery that the lake's first `ingest` recorded.

    Raises:
        InputMissing: nothing was ever ingested.
    """
    rows = (
        lake.read(RUNS)
        .where((F.col("job") == "ingest") & (F.col("status") == "done"))
        .orderBy("started_at")
        .select("arguments")
        .head(1)
    )
    if rows:
        return delivery_of(json.loads(rows[0]["arguments"]))
    newest = newest_ingest(lake)
    if newest is None:
        raise InputMissing(
            f"The lake {lake.uri} has no record of an `ingest`, so there is no source to go by.",
            expected="a source in the configuration, or a lake with an earlier `ingest`.",
            remedy="run `fraud-scoring ingest --source … --format … --mapping …` first.",
        )
    return delivery_of(newest.arguments)


def delivery_of(arguments: dict[str, object]) -> Delivery:
    mapping = Mapping.model_validate_json(str(arguments["mapping_content"]))
    return Delivery(str(arguments["source"]), arguments["format"], mapping)  # type: ignore[arg-type]


def newest_ingest(lake: Lake) -> Run | None:
    """Record of the newest `ingest` that is done; `nights` has it before `runs` does."""
    record = F.col("jobs")["ingest"]
    started = F.get_json_object(record, "$.started_at")
    newest = lake.read(NIGHTS).agg(F.max_by(record, started).alias("record")).head()
    return Run.from_json(newest["record"]) if newest and newest["record"] else None


def types_before(lake: Lake, delivery: Delivery) -> dict[str, dict[str, str]]:
    """Types of the mapped columns when this mapping was last used with this format."""
    newest = newest_ingest(lake) if lake.is_lake() else None
    if newest is None:
        return {}
    arguments = newest.arguments
    if (arguments["mapping"], arguments["format"]) != (delivery.mapping.name, delivery.format):
        return {}
    types: dict[str, dict[str, str]] = newest.figures.get("source_types", {})
    return types


def default_delivery(lake: Lake) -> Delivery:
    """What the settings name, else what the lake's first ingest recorded.

    Raises:
        UsageError: the settings name a source but not its format and mapping.
    """
    settings = lake.settings
    if settings.source is None:
        return recorded_delivery(lake)
    if settings.source_format is None or settings.mapping is None:
        raise UsageError(
            f"The settings name the source {settings.source} but not how to read it.",
            expected="`source`, `source_format` and `mapping` together.",
            remedy="add what is missing to the configuration, or leave all three out.",
        )
    return Delivery(settings.source, settings.source_format, load_mapping(settings.mapping))
