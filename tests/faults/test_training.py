"""A killed training rank is named with its last lines, and the next run resumes the training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import run
from injection import OpenReport
from lakes import AS_OF, BEFORE_PREVIOUS_NIGHT
from target_process import FaultPoint

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

pytestmark = [
    pytest.mark.faults,
    pytest.mark.spark,
    pytest.mark.distributed,
    pytest.mark.slow,
]

TRAIN = ("train", "--as-of", AS_OF, "--recipe", "lstm_autoencoder", "--num-workers", 2)


def test_killed_rank_is_named_and_training_is_resumed(
    lake_before: Callable[[str], Lake], fault_report: OpenReport
) -> None:
    from jobs.lake.tables import RUNS
    from jobs.models.model_store import open_registry

    lake = lake_before(BEFORE_PREVIOUS_NIGHT)
    folder = Path(lake.uri)
    with fault_report("train: one of two ranks is killed after an epoch") as line:
        line.before = f"{len(open_registry(lake).versions())} versions"
        killed = run(folder, *TRAIN, fault=FaultPoint("train", action="kill_rank"))
        saved = sorted(path.name for path in folder.glob("_staging/train-*/run/epoch-*.json"))
        versions = open_registry(lake).versions()
        line.after_fault = f"{killed}; {len(versions)} versions, saved: {saved}"
        assert killed.code == 1, killed.output[-3000:]
        assert "rank 1 of 2 was killed" in killed.output
        # The lines of its log carry its process id.
        assert " pid " in killed.output.partition("its last log lines:")[2]
        assert saved
        assert len(versions) == 1
        resumed = run(folder, *TRAIN)
        assert resumed.code == 0, resumed.output[-3000:]
        versions = open_registry(lake).versions()
        line.after_rerun = f"{resumed}; {len(versions)} versions"
        assert len(versions) == 2
        assert versions[-1].aliases == ("challenger",)
        done = lake.read(RUNS).where("job = 'train' AND status = 'done'").orderBy("started_at")
        training = json.loads(done.collect()[-1]["figures"])["training"]
        assert [entry["epoch"] for entry in training["history"]] == [1, 2, 3, 4]
        # Ranks log every epoch they train: those saved before the kill are not trained again.
        assert '"epoch": 4,' in resumed.output
        assert '"epoch": 1,' not in resumed.output
        assert not list(folder.glob("_staging/train-*"))
        assert run(folder, *TRAIN).code == 0
        assert len(open_registry(lake).versions()) == 2, "a finished training is not repeated"
        line.verdict = "resumed, one version"
