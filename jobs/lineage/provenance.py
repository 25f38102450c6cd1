"""What earlier runs recorded and later jobs rely on: finished jobs, meanings, what made a score."""

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


def lake_as_recorded(lake: Lake, run: Run) -> Lake:
    """The lake as a run had it: its own `late_days` says how far a run has read."""
    late_days = run.figures.get(LATE_DAYS, lake.settings.late_days)
    return replace(lake, settings=lake.settings.model_copy(update={LATE_DAYS: late_days}))


def _wrote(features: RecordedRun) -> int:
    return features.run.versions_out[FEATURES_TABLE.name]


def _runs_of_night(lake: Lake, day: date) -> list[RecordedRun]:
    """Runs of a night that ended well, in the order in which they began."""
    rows = runs_covering(lake, day).where("status = 'done'").collect()
    found = {row["run_id"]: RecordedRun(Run.from_row(row), row["package_version"]) for row in rows}
    for run in night_records(lake, Dates(day, day)).get(day, {}).values():
        found.setdefault(run.run_id, RecordedRun(run, None))
    return sorted(found.values(), key=lambda item: item.run.started_at)
