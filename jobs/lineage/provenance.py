"""The provenance of a published score: the runs that produced it and the versions they read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from feature_defs.errors import InputMissing
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.run_history import LATE_DAYS, night_records, runs_covering
from jobs.lake.runs import Run
from jobs.lake.tables import FEATURES_TABLE


@dataclass(frozen=True)
class RecordedRun:
    """A successful run, and the version of this package that executed it, if recorded."""

    run: Run
    package_version: str | None


@dataclass(frozen=True)
class Provenance:
    """The runs that produced a published score, in the order of the night's jobs."""

    features: RecordedRun
    score: RecordedRun
    publish: RecordedRun | None
    alerts: RecordedRun | None

    @property
    def versions(self) -> dict[str, int]:
        """Return the version of each table that the score was computed from."""
        return {**self.features.run.versions_in, **self.score.run.versions_in}


def provenance(lake: Lake, day: date, run_id: str) -> Provenance:
    """Return the runs that produced a score of a night; `run_id` is the run named in its row.

    The night's current pins cannot be used, because a later backfill changes them.

    Raises:
        InputMissing: the record of a run is missing.
    """
    ended = _runs_of_night(lake, day)
    score = next((item for item in ended if item.run.run_id == run_id), None)
    version = score.run.versions_in.get(FEATURES_TABLE.name) if score else None
    # At that version, the rows of this night come from the last `features` run up to it.
    built = [item for item in ended if FEATURES_TABLE.name in item.run.versions_out]
    before = [item for item in built if version is not None and _wrote(item) <= version]
    if score is None or not before:
        raise InputMissing(
            f"No record contains the versions that the run {run_id} of the night {day} has read.",
            expected="a record of the run in `runs`, or in the column `jobs` of `nights`.",
            remedy="restore these tables. `fraud-scoring maintain` copies missing records to "
            "`runs`.",
        )
    after = ended[ended.index(score) + 1 :]
    publish = next((item for item in after if item.run.job == "publish"), None)
    alerts = next((item for item in after if item.run.job == "alerts"), None)
    return Provenance(max(before, key=_wrote), score, publish, alerts)


def lake_as_recorded(lake: Lake, run: Run) -> Lake:
    """Return the lake with the `late_days` that a run has recorded, which decides what it read."""
    late_days = run.figures.get(LATE_DAYS, lake.settings.late_days)
    return replace(lake, settings=lake.settings.model_copy(update={LATE_DAYS: late_days}))


def _wrote(features: RecordedRun) -> int:
    return features.run.versions_out[FEATURES_TABLE.name]


def _runs_of_night(lake: Lake, day: date) -> list[RecordedRun]:
    """Return the successful runs of a night, ordered by start time."""
    rows = runs_covering(lake, day).where("status = 'done'").collect()
    runs = {row["run_id"]: RecordedRun(Run.from_row(row), row["package_version"]) for row in rows}
    for run in night_records(lake, Dates(day, day)).get(day, {}).values():
        runs.setdefault(run.run_id, RecordedRun(run, None))
    return sorted(runs.values(), key=lambda item: item.run.started_at)
