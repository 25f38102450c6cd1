"""What earlier runs recorded and later jobs rely on: finished jobs, meanings, what made a score."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.problems import InputMissing
from jobs.lake.delta_io import Dates, Lake
from jobs.lake.runs import Run
from jobs.lake.tables import FEATURES_TABLE, NIGHTS, RUNS

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


@dataclass(frozen=True)
class RecordedRun:
    """A run that ended well, and the version of this package that executed it, where known."""

    run: Run
    package_version: str | None


@dataclass(frozen=True)
class Provenance:
    """The runs that made a published score, in the order of the night."""

    features: RecordedRun
    score: RecordedRun
    publish: RecordedRun | None
    alerts: RecordedRun | None

    @property
    def versions(self) -> dict[str, int]:
        """Version of each table that the score was made from."""
        return {**self.features.run.versions_in, **self.score.run.versions_in}


def provenance(lake: Lake, day: date, run_id: str) -> Provenance:
    """The runs behind a score of a night, by the run that its row names.

    The night's pins will not do: a backfill moves them on, and an old score stays what it was.

    Raises:
        InputMissing: no record says what the score was made from.
    """
    ended = _runs_of_night(lake, day)
    score = next((item for item in ended if item.run.run_id == run_id), None)
    version = score.run.versions_in.get(FEATURES_TABLE.name) if score else None
    # The rows of this night at that version are of the last run before it that wrote them.
    built = [item for item in ended if FEATURES_TABLE.name in item.run.versions_out]
    before = [item for item in built if version is not None and _wrote(item) <= version]
    if score is None or not before:
        raise InputMissing(
            f"No record says which versions the run {run_id} of the night {day} has read.",
            expected="its row in `runs`, or in the column `jobs` of `nights`.",
            remedy="restore these tables; `fraud-scoring maintain` copies what `runs` lacks.",
        )
    after = ended[ended.index(score) + 1 :]
    publish = next((item for item in after if item.run.job == "publish"), None)
    alerts = next((item for item in after if item.run.job == "alerts"), None)
    return Provenance(max(before, key=_wrote), score, publish, alerts)


def as_then(lake: Lake, run: Run) -> Lake:
    """The lake as a run had it: its own `late_days` says how far a run has read."""
    late_days = run.figures.get(LATE_DAYS, lake.settings.late_days)
    return replace(lake, settings=lake.settings.model_copy(update={LATE_DAYS: late_days}))


def _wrote(features: RecordedRun) -> int:
    return features.run.versions_out[FEATURES_TABLE.name]


def runs_covering(lake: Lake, day: date) -> DataFrame:
    """Rows of `runs` whose dates hold a night."""
    return lake.read(RUNS).where(F.lit(day).between(F.col("first_date"), F.col("last_date")))


def _runs_of_night(lake: Lake, day: date) -> list[RecordedRun]:
    """Runs of a night that ended well, in the order in which they began."""
    rows = runs_covering(lake, day).where("status = 'done'").collect()
    found = {row["run_id"]: RecordedRun(Run.from_row(row), row["package_version"]) for row in rows}
    for run in night_records(lake, Dates(day, day)).get(day, {}).values():
        found.setdefault(run.run_id, RecordedRun(run, None))
    return sorted(found.values(), key=lambda item: item.run.started_at)


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
