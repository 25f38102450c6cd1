"""What earlier runs recorded and later jobs rely on: finished jobs, and the features' meanings."""

from __future__ import annotations

from datetime import date

from feature_defs.problems import InputMissing
from jobs.lake.delta_io import Dates, Lake
from jobs.lake.runs import Run
from jobs.lake.tables import NIGHTS


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
