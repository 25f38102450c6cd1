"""Queries on what earlier runs recorded: finished jobs, feature fingerprints, rows of `runs`."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.errors import InputMissing
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run
from jobs.lake.tables import NIGHTS, RUNS

# Name of the setting that decides how many days back `features` and `score` read. Both jobs
# record its value under this key of their figures.
LATE_DAYS = "late_days"


def night_records(lake: Lake, dates: Dates) -> dict[date, dict[str, Run]]:
    """Return the records of finished jobs, by night and job name, for each night in `nights`."""
    rows = lake.read(NIGHTS).where(dates.sql).select("business_date", "jobs").collect()
    return {
        row["business_date"]: {job: Run.from_json(text) for job, text in row["jobs"].items()}
        for row in rows
    }


def feature_fingerprints(lake: Lake, dates: Dates) -> dict[str, str]:
    """Return the fingerprint of each feature column, which must be the same for all nights.

    Raises:
        InputMissing: an ingested night has no features, or the fingerprints of nights differ. The
            message names all such nights and columns.
    """
    without_features: list[str] = []
    fingerprints: dict[str, set[str]] = {}
    num_nights = 0
    for day, jobs in sorted(night_records(lake, dates).items()):
        if "ingest" not in jobs:
            continue
        if "features" not in jobs:
            without_features.append(str(day))
            continue
        num_nights += 1
        for name, fingerprint in jobs["features"].figures["fingerprints"].items():
            fingerprints.setdefault(name, set()).add(fingerprint)
    differing = sorted(name for name, values in fingerprints.items() if len(values) > 1)
    if without_features or differing or not num_nights:
        raise InputMissing(
            f"The features of {dates} are incomplete or inconsistent: "
            + "; ".join(
                ([f"no features for {', '.join(without_features)}"] if without_features else [])
                + ([f"nights differ in {', '.join(differing)}"] if differing else [])
                + ([] if num_nights or without_features else ["no night has been ingested"])
            )
            + ".",
            expected="features with the same definitions for every ingested night of the context.",
            remedy=f"run `fraud-scoring features --from {dates.first} --to {dates.last}`.",
        )
    return {name: next(iter(values)) for name, values in fingerprints.items()}


def runs_covering(lake: Lake, day: date) -> DataFrame:
    """Return the rows of `runs` whose date range contains a night."""
    return lake.read(RUNS).where(F.lit(day).between(F.col("first_date"), F.col("last_date")))


def uncopied_runs(lake: Lake, except_for: set[date]) -> list[Run]:
    """Return finished jobs that are in `nights` but not in `runs`, except those of some nights.

    A run copies its records to `runs` when it releases its nights. A killed run does not.
    """
    record = F.explode(F.map_values("jobs")).alias("record")
    rows = lake.read(NIGHTS).where(~F.col("business_date").isin(list(except_for)))
    recorded = rows.select(record).distinct()
    recorded = recorded.withColumn("run_id", F.get_json_object("record", "$.run_id"))
    copied = lake.read(RUNS).select("run_id")
    missing = recorded.join(copied, "run_id", "left_anti").collect()
    runs = {row["run_id"]: Run.from_json(row["record"]) for row in missing}
    return sorted(runs.values(), key=lambda run: run.started_at)
