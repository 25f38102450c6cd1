"""Train in the test process, for tests that need a model but no distributed training.

TorchDistributor starts a Spark task and a Python process per rank. Each process imports torch,
Petastorm and the packages again, which costs ten to twenty seconds per training. Distributed
training is tested in `tests/fraud_models/training/test_distributed.py` and with the model of
`tests/jobs/test_nightly.py`.
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
    """Make `jobs.train` call the training loop in this process; one worker only."""
    from fraud_models.training.loop import train

    def in_this_process(_: SparkSession, run: TrainingRun, num_workers: int) -> dict[str, Any]:
        assert num_workers == 1, "training in this process has one rank"
        return train(run)

    with patch("jobs.train.train_distributed", in_this_process):
        yield
