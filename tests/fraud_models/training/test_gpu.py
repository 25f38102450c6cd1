"""Training on a GPU; skipped without one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fraud_models.training.loop import TrainingRun, train
from fraud_models.training.process_group import Ranks
from tests.fraud_models.conftest import semi_supervised, small_config

LENGTHS = [5, 9, 14, 30, 8, 21, 6, 17, 12, 40, 11, 7]
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is available")


def test_run_without_gpu_trains_on_cpu_in_float32(
    write_snapshot: Callable[..., str], tmp_path: Path
) -> None:
    run = TrainingRun(write_snapshot(LENGTHS, 3), str(tmp_path / "run"), small_config())
    summary = train(replace(run, use_gpu=False))
    assert (summary["device"], summary["precision"]) == ("cpu", "float32")
    assert Ranks(0, 1, torch.device("cpu")).precision(mixed=True) == torch.float32


@on_gpu
@pytest.mark.parametrize("with_head", [False, True])
def test_gpu_losses_match_cpu_losses(
    write_snapshot: Callable[..., str], tmp_path: Path, with_head: bool
) -> None:
    config = semi_supervised(small_config()) if with_head else small_config()
    uri = write_snapshot(LENGTHS, 3, labelled=with_head)
    runs = {
        name: train(TrainingRun(uri, str(tmp_path / name), config, **kind))
        for name, kind in {
            "cpu": {"use_gpu": False},
            "float32": {"mixed_precision": False},
            "bfloat16": {},
        }.items()
    }
    for name, rel in (("float32", 1e-3), ("bfloat16", 0.05)):
        assert (runs[name]["precision"], runs[name]["device"] == "cpu") == (name, False)
        for ours, theirs in zip(runs[name]["history"], runs["cpu"]["history"], strict=True):
            assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=rel, abs=rel)
