"""The folders in `_staging/`: which run staged them, and which ones can be deleted.

A killed job leaves its staged folder behind. The name of the folder is the `run_id` of the job,
which contains its start time. A folder that may belong to a live run counts as in use.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyspark.sql import functions as F

from fraud_models.storage import names_in
from jobs.lake.delta_io import Lake
from jobs.lake.night_state import leased_nights
from jobs.lake.runs import now
from jobs.lake.tables import NIGHTS

FOLDER = "_staging"
# A folder that changed more recently may belong to a job that needs no lease.
GRACE = timedelta(days=1)
# A killed training can resume from its last epoch within this time.
RESUMABLE = timedelta(days=14)
TRAINING = "train-"
_START_TIME = re.compile(r"-(\d{8}T\d{6})-[0-9a-f]+")


@dataclass(frozen=True)
class Staged:
    """A folder under `_staging/`: whether it is dead (not needed any more), and the reason."""

    name: str
    dead: bool
    why: str


def examine(lake: Lake, is_registered: Callable[[str], bool]) -> list[Staged]:
    """Return every staged folder and whether it can be deleted, in the order of names.

    `is_registered` returns whether the registry has the model of a training id. It is called only
    for trainings whose folder has not changed recently.
    """
    names = names_in(lake.path(FOLDER))
    if not names:
        return []
    unpublished = _unpublished_scores(lake)
    owners = leased_nights(lake).values()
    oldest_live_start = min(map(_start_time, owners), default=None)
    folders = []
    for name in names:
        age = now() - _last_change(lake, name)
        if name in unpublished:
            folders.append(Staged(name, dead=False, why="contains unpublished scores"))
        elif age < max(GRACE, timedelta(minutes=lake.settings.lease_minutes)):
            folders.append(Staged(name, dead=False, why="changed recently"))
        elif name.startswith(TRAINING):
            folders.append(_training(name, age, is_registered))
        elif oldest_live_start is not None and _start_time(name) >= oldest_live_start:
            folders.append(Staged(name, dead=False, why="may belong to a running job"))
        else:
            folders.append(Staged(name, dead=True, why=f"left by a run {age.days} days ago"))
    return folders


def _unpublished_scores(lake: Lake) -> set[str]:
    """Return the ids of the runs whose staged scores are not published yet."""
    score = F.get_json_object(F.col("jobs")["score"], "$.run_id")
    unpublished = F.when(F.col("jobs")["publish"].isNull(), score)
    return set(lake.read(NIGHTS).agg(F.collect_set(unpublished).alias("ids")).collect()[0]["ids"])


def _training(name: str, age: timedelta, is_registered: Callable[[str], bool]) -> Staged:
    if is_registered(name.removeprefix(TRAINING)):
        return Staged(name, dead=True, why="a training whose model is registered")
    if age < RESUMABLE:
        return Staged(name, dead=False, why="a training that can be resumed")
    return Staged(name, dead=True, why=f"a training that was not resumed for {age.days} days")


def _start_time(name: str) -> datetime:
    """Return the start time in a run id or lease owner name; the earliest time if it has none."""
    match = _START_TIME.search(name)
    if match is None:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.strptime(match.group(1), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def _last_change(lake: Lake, name: str) -> datetime:
    """Return when the newest file of a staged folder was written, or an empty folder created."""
    path = lake.path(FOLDER, name)
    files = lake.files.find(path) or [path]
    newest: datetime = max(lake.files.modified(file) for file in files)
    return newest.astimezone(UTC)
