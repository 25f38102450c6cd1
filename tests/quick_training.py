"""Training in the process of the tests, for tests that need a model and not its distribution.

TorchDistributor starts a Spark task and a Python process per rank, which import torch, Petastorm
and the packages anew: ten to twenty seconds a training. `tests/fraud_models/training/
test_distributed.py` and the model of `tests/jobs/test_nightly.py` go that way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from fraud_models.training.loop import TrainingRun


@contextmanager
def training_in_this_process() -> Iterator[None]:
    """Let `jobs.train` call the training loop itself; for one worker only."""
    from fraud_models.training.loop import train

    def in_this_process(_: SparkSession, run: TrainingRun, num_workers: int) -> dict[str, Any]:
        assert num_workers == 1, "one process is one rank"
        return train(run)

    with patch("jobs.train.train_distributed", in_this_process):
        yield
