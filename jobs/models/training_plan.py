"""What is to be trained, and its pinned inputs."""

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
    """What is to be trained."""

    as_of: date
    recipe: str
    config: ModelConfig
    num_workers: int

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise UsageError(
                f"--num-workers is {self.num_workers}.",
                expected="one training process or more.",
                remedy="give a number of workers that the machine has cores or GPUs for.",
            )

    @property
    def days(self) -> TrainingDays:
        """What is context, what trains, what validates."""
        return training_days(self.as_of, self.config)

    @property
    def targets(self) -> Dates:
        """Nights whose events train or validate."""
        return Dates(self.days.train_from, self.as_of - timedelta(days=1))

    @property
    def validation(self) -> Dates:
        """Nights that validate and calibrate."""
        return Dates(self.days.validation_from, self.as_of - timedelta(days=1))


@dataclass(frozen=True)
class TrainingInputs:
    """Pinned input of one training."""

    plan: TrainingPlan
    versions: dict[str, int]
    fingerprints: dict[str, str]

    @property
    def training_id(self) -> str:
        """Same data, config and number of workers: same training."""
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
