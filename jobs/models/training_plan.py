"""The plan of a training and its pinned inputs, from which the training id follows.

The id is a hash of everything that decides the result, so a repeated training is recognised and
its model is reused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.metadata import version as package_version

from feature_defs.errors import UsageError
from fraud_models.config import ModelConfig
from fraud_models.evaluation.splits import TrainingDays, training_days
from jobs.lake.dates import Dates


@dataclass(frozen=True)
class TrainingPlan:
    """Recipe, config, date and number of worker processes of one training."""

    as_of: date
    recipe: str
    config: ModelConfig
    num_workers: int

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise UsageError(
                f"--num-workers is {self.num_workers}.",
                expected="at least 1 training process.",
                remedy="set --num-workers to at most the number of cores or GPUs.",
            )

    @property
    def days(self) -> TrainingDays:
        """Return the days of context, of training and of validation."""
        return training_days(self.as_of, self.config)

    @property
    def targets(self) -> Dates:
        """Return the nights whose events are used for training or validation."""
        return Dates(self.days.train_from, self.as_of - timedelta(days=1))

    @property
    def validation(self) -> Dates:
        """Return the nights for validation and calibration."""
        return Dates(self.days.validation_from, self.as_of - timedelta(days=1))


@dataclass(frozen=True)
class TrainingInputs:
    """Pinned inputs of one training: table versions and feature fingerprints."""

    plan: TrainingPlan
    versions: dict[str, int]
    fingerprints: dict[str, str]

    @property
    def training_id(self) -> str:
        """Return the training id; equal data, config and number of workers give equal ids."""
        parts = [
            self.plan.config.to_dict(),
            str(self.plan.as_of),
            self.plan.num_workers,
            self.versions,
            self.fingerprints,
            package_version("fraud-scoring"),
        ]
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
