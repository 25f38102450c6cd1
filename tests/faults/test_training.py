"""A training rank that is killed: named with its last lines, and gone on from when run again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import run
from lakes import AS_OF, BEFORE_EVE
from victim import Trap

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

pytestmark = [
    pytest.mark.faults,
    pytest.mark.spark,
    pytest.mark.distributed,
    pytest.mark.slow,
]

TRAIN = ("train", "--as-of", AS_OF, "--recipe", "lstm_autoencoder", "--num-workers", 2)


def test_a_killed_rank(lake_at: Callable[[str], Lake], outcome: Callable[[str], Any]) -> None:
    from jobs.lake.tables import RUNS
    from jobs.models.model_store import open_registry

    lake = lake_at(BEFORE_EVE)
    place = Path(lake.uri)
    with outcome("train: one of two ranks is killed after an epoch") as line:
        line.before = f"{len(open_registry(lake).versions())} versions"
        hit = run(place, *TRAIN, trap=Trap("ranks", act="kill_rank"))
        kept = sorted(path.name for path in place.glob("_staging/train-*/run/epoch-*.json"))
        line.after_fault = f"{hit}; {len(open_registry(lake).versions())} versions, {kept} kept"
        assert hit.code == 1, hit.words[-3000:]
        assert "rank 1 of 2 was killed from outside" in hit.words
        # Its last lines are there, by process id.
        assert " pid " in hit.words.partition("its last lines:")[2]
        assert kept
        assert len(open_registry(lake).versions()) == 1
        again = run(place, *TRAIN)
        assert again.code == 0, again.words[-3000:]
        versions = open_registry(lake).versions()
        line.after_rerun = f"{again}; {len(versions)} versions"
        assert len(versions) == 2
        assert versions[-1].aliases == ("challenger",)
        done = lake.read(RUNS).where("job = 'train' AND status = 'done'").orderBy("started_at")
        training = json.loads(done.collect()[-1]["figures"])["training"]
        assert [entry["epoch"] for entry in training["history"]] == [1, 2, 3, 4]
        # Ranks tell each epoch that they train: those before the kill are not among them.
        assert '"epoch": 4,' in again.words
        assert '"epoch": 1,' not in again.words
        assert not list(place.glob("_staging/train-*"))
        assert run(place, *TRAIN).code == 0
        assert len(open_registry(lake).versions()) == 2, "a finished training is not repeated"
        line.verdict = "resumed, one version"
