"""The label policy: what a missing label means, from the mapping that `ingest` recorded."""

from __future__ import annotations

import json
from datetime import datetime

from pyspark.sql import functions as F

from feature_defs.labels import LabelPolicy
from jobs.deliveries.delivery_history import delivery_from_arguments, newest_ingest
from jobs.lake.delta_io import Lake
from jobs.lake.tables import NIGHTS, RUNS


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
