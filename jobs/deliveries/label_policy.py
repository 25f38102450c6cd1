"""What the absence of a label means, by the mapping that `ingest` recorded."""

from __future__ import annotations

import json
from datetime import datetime

from pyspark.sql import functions as F

from feature_defs.labels import LabelPolicy
from jobs.deliveries.earlier_deliveries import delivery_of, newest_ingest
from jobs.lake.delta_io import Lake
from jobs.lake.tables import NIGHTS, RUNS


def label_policy(lake: Lake) -> LabelPolicy:
    """What the absence of a label means, by the mapping of the newest `ingest`."""
    newest = newest_ingest(lake)
    return delivery_of(newest.arguments).mapping.label_policy if newest else LabelPolicy()


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
    return delivery_of(json.loads(newest["arguments"])).mapping.label_policy
