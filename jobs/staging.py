"""What lies in `_staging/`, whose it is, and what nobody will come back for.

A job that is killed leaves what it had staged. The name of a staged folder is the `run_id` of the
job that made it, and says when that job began; what a run at work may own is left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyspark.sql import functions as F

from fraud_models.storage import names_in
from jobs.lake.delta_io import Lake
from jobs.lake.runs import now
from jobs.lake.tables import NIGHTS
from jobs.lake.upkeep import held_nights
from jobs.model_store import has_registry, open_registry

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


def examine(lake: Lake) -> list[Staged]:
    """Everything staged, by name.

    Raises:
        InputMissing: trainings were left, and the registry that could know them cannot be read.
    """
    names = names_in(lake.path(FOLDER))
    if not names:
        return []
    waiting = _waiting_scores(lake)
    busy_since = min((_begun(holder) for holder in held_nights(lake).values()), default=None)
    return [_judge(lake, name, waiting, busy_since) for name in names]


def _waiting_scores(lake: Lake) -> set[str]:
    """Runs whose scores wait in staging until they are published."""
    score = F.get_json_object(F.col("jobs")["score"], "$.run_id")
    waiting = F.when(F.col("jobs")["publish"].isNull(), score)
    return set(lake.read(NIGHTS).agg(F.collect_set(waiting).alias("own")).collect()[0]["own"])


def _judge(lake: Lake, name: str, waiting: set[str], busy_since: datetime | None) -> Staged:
    if name in waiting:
        return Staged(name, dead=False, why="scores that wait to be published")
    age = now() - _last_change(lake, name)
    if age < max(GRACE, timedelta(minutes=lake.settings.lease_minutes)):
        return Staged(name, dead=False, why="changed a short while ago")
    if name.startswith(TRAINING):
        return _judge_training(lake, name, age)
    if busy_since is not None and _begun(name) >= busy_since:
        return Staged(name, dead=False, why="may belong to a run at work")
    return Staged(name, dead=True, why=f"left by a run that ended {age.days} days ago")


def _judge_training(lake: Lake, name: str, age: timedelta) -> Staged:
    training_id = name.removeprefix(TRAINING)
    if has_registry(lake) and open_registry(lake).find_by_training_id(training_id):
        return Staged(name, dead=True, why="a training whose model is registered")
    if age < RESUMABLE:
        return Staged(name, dead=False, why="a training that can go on")
    return Staged(name, dead=True, why=f"a training that nobody took up for {age.days} days")


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
