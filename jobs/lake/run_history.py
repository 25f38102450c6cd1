"""What earlier runs recorded about a night: finished jobs, feature fingerprints, runs."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.errors import InputMissing
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run
from jobs.lake.tables import NIGHTS, RUNS

# The setting that decides how far `features` and `score` read; both record it.
LATE_DAYS = "late_days"


def night_records(lake: Lake, dates: Dates) -> dict[date, dict[str, Run]]:
    """Records of the finished jobs of each night that was begun, by date."""
    rows = lake.read(NIGHTS).where(dates.sql).select("business_date", "jobs").collect()
    return {
        row["business_date"]: {job: Run.from_json(text) for job, text in row["jobs"].items()}
        for row in rows
    }


def feature_fingerprints(lake: Lake, dates: Dates) -> dict[str, str]:
    """Fingerprint per column that the features of all these nights have in common.

    Raises:
        InputMissing: a night was ingested but has no features, or nights differ; all are named.
    """
    without: list[str] = []
    marks: dict[str, set[str]] = {}
    num_nights = 0
    for day, jobs in sorted(night_records(lake, dates).items()):
        if "ingest" not in jobs:
            continue
        if "features" not in jobs:
            without.append(str(day))
            continue
        num_nights += 1
        for name, mark in jobs["features"].figures["fingerprints"].items():
            marks.setdefault(name, set()).add(mark)
    differing = sorted(name for name, seen in marks.items() if len(seen) > 1)
    if without or differing or not num_nights:
        raise InputMissing(
            f"The features of {dates} are not all there: "
            + "; ".join(
                ([f"no features for {', '.join(without)}"] if without else [])
                + ([f"nights differ in {', '.join(differing)}"] if differing else [])
                + ([] if num_nights or without else ["no night has been ingested"])
            )
            + ".",
            expected="features of one meaning for every ingested night of the context.",
            remedy=f"run `fraud-scoring features --from {dates.first} --to {dates.last}`.",
        )
    return {name: next(iter(seen)) for name, seen in marks.items()}


def runs_covering(lake: Lake, day: date) -> DataFrame:
    """Rows of `runs` whose dates hold a night."""
    return lake.read(RUNS).where(F.lit(day).between(F.col("first_date"), F.col("last_date")))


def uncopied_runs(lake: Lake, except_for: set[date]) -> list[Run]:
    """Finished jobs that `nights` knows and `runs` does not, but for those of some nights.

    A run copies its records when it lets its nights go; one that was killed has not.
    """
    record = F.explode(F.map_values("jobs")).alias("record")
    rows = lake.read(NIGHTS).where(~F.col("business_date").isin(list(except_for)))
    kept = rows.select(record).distinct()
    kept = kept.withColumn("run_id", F.get_json_object("record", "$.run_id"))
    copied = lake.read(RUNS).select("run_id")
    missing = kept.join(copied, "run_id", "left_anti").collect()
    runs = {row["run_id"]: Run.from_json(row["record"]) for row in missing}
    return sorted(runs.values(), key=lambda run: run.started_at)
