"""What the lake remembers of earlier deliveries: their source, their mapping, their types."""

from __future__ import annotations

import json
from datetime import datetime

from pyspark.sql import functions as F

from feature_defs.problems import InputMissing
from feature_defs.sources import LabelPolicy
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run
from jobs.lake.tables import NIGHTS, RUNS
from jobs.mapping import Mapping
from jobs.source import Delivery


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
        return _delivery(json.loads(rows[0]["arguments"]))
    newest = newest_ingest(lake)
    if newest is None:
        raise InputMissing(
            f"The lake {lake.uri} has no record of an `ingest`, so there is no source to go by.",
            expected="a source in the configuration, or a lake with an earlier `ingest`.",
            remedy="run `fraud-scoring ingest --source … --format … --mapping …` first.",
        )
    return _delivery(newest.arguments)


def _delivery(arguments: dict[str, object]) -> Delivery:
    mapping = Mapping.model_validate_json(str(arguments["mapping_content"]))
    return Delivery(str(arguments["source"]), arguments["format"], mapping)  # type: ignore[arg-type]


def label_policy(lake: Lake) -> LabelPolicy:
    """What the absence of a label means, by the mapping of the newest `ingest`."""
    newest = newest_ingest(lake)
    return _delivery(newest.arguments).mapping.label_policy if newest else LabelPolicy()


def label_policy_at(lake: Lake, moment: datetime) -> LabelPolicy:
    """What the absence of a label meant at a moment: by the newest `ingest` begun before it."""
    ended = (F.col("job") == "ingest") & (F.col("status") == "done")
    copied = lake.read(RUNS).where(ended).select("started_at", "arguments")
    record = F.col("jobs")["ingest"]
    kept = lake.read(NIGHTS).select(
        F.get_json_object(record, "$.started_at").cast("timestamp").alias("started_at"),
        F.get_json_object(record, "$.arguments").alias("arguments"),
    )
    before = copied.unionByName(kept).where(F.col("started_at") < F.lit(moment))
    newest = before.agg(F.max_by("arguments", "started_at").alias("arguments")).head()
    if newest is None or newest["arguments"] is None:
        return LabelPolicy()
    return _delivery(json.loads(newest["arguments"])).mapping.label_policy


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
