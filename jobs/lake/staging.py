"""What lies in `_staging/`, whose it is, and what nobody will come back for.

A job that is killed leaves what it had staged. The name of a staged folder is the `run_id` of the
job that made it, and says when that job began; what a run at work may own is left alone.
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
# A folder that changed less than this ago may belong to a job that takes no lease.
GRACE = timedelta(days=1)
# A killed training goes on from its last epoch, but not for ever.
RESUMABLE = timedelta(days=14)
TRAINING = "train-"
_BEGUN = re.compile(r"-(\d{8}T\d{6})-[0-9a-f]+")


@dataclass(frozen=True)
class Staged:
    """A folder under `_staging/`: whether it is dead, and why (or why not)."""

    name: str
    dead: bool
    why: str


def examine(lake: Lake, is_registered: Callable[[str], bool]) -> list[Staged]:
    """Return everything that is staged, by name.

    `is_registered` says whether the model of a training id is in the registry; it is asked only
    about trainings that were left behind.
    """
    names = names_in(lake.path(FOLDER))
    if not names:
        return []
    unpublished = _unpublished_scores(lake)
    busy_since = min((_begun(owner) for owner in leased_nights(lake).values()), default=None)
    found = []
    for name in names:
        age = now() - _last_change(lake, name)
        if name in unpublished:
            found.append(Staged(name, dead=False, why="scores that wait to be published"))
        elif age < max(GRACE, timedelta(minutes=lake.settings.lease_minutes)):
            found.append(Staged(name, dead=False, why="changed a short while ago"))
        elif name.startswith(TRAINING):
            found.append(_training(name, age, is_registered))
        elif busy_since is not None and _begun(name) >= busy_since:
            found.append(Staged(name, dead=False, why="may belong to a running job"))
        else:
            found.append(Staged(name, dead=True, why=f"left by a run {age.days} days ago"))
    return found


def _unpublished_scores(lake: Lake) -> set[str]:
    """Return the runs whose scores wait in staging until they are published."""
    score = F.get_json_object(F.col("jobs")["score"], "$.run_id")
    waiting = F.when(F.col("jobs")["publish"].isNull(), score)
    return set(lake.read(NIGHTS).agg(F.collect_set(waiting).alias("own")).collect()[0]["own"])


def _training(name: str, age: timedelta, is_registered: Callable[[str], bool]) -> Staged:
    if is_registered(name.removeprefix(TRAINING)):
        return Staged(name, dead=True, why="a training whose model is registered")
    if age < RESUMABLE:
        return Staged(name, dead=False, why="a training that can be resumed")
    return Staged(name, dead=True, why=f"a training that was not resumed for {age.days} days")


def _begun(name: str) -> datetime:
    """When the run or holder of this name began; the beginning of time when it does not say."""
    found = _BEGUN.search(name)
    if found is None:
        return datetime.min.replace(tzinfo=UTC)
    return datetime.strptime(found.group(1), "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


def _last_change(lake: Lake, name: str) -> datetime:
    """When the newest file of a staged folder was written, or the folder made."""
    place = lake.path(FOLDER, name)
    files = lake.files.find(place) or [place]
    newest: datetime = max(lake.files.modified(file) for file in files)
    return newest.astimezone(UTC)
