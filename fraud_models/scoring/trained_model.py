"""A trained model in memory: weights, and everything needed to score with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from feature_defs.errors import FraudScoringError, InputMissing
from fraud_models.config import ModelConfig
from fraud_models.scoring.calibration import Calibration
from fraud_models.scoring.rarity import Rarities
from fraud_models.sequences.encoding import Encoding

# What the names of a supervised head's weights begin with.
HEAD_WEIGHTS = "head"


@dataclass(frozen=True)
class TrainedModel:
    """A trained model."""

    config: ModelConfig
    encoding: Encoding
    columns: Mapping[str, str]
    """Feature columns that the model reads, with the fingerprints of their definitions."""
    data_versions: Mapping[str, int]
    """Version of every table that the training data came from."""
    as_of: str
    """Date (YYYY-MM-DD) before whose 00:00 UTC all training data was known."""
    weights: Mapping[str, Tensor]
    calibration: Calibration | None = None
    """Unset until the model has ranked its validation nights."""
    rarities: Rarities | None = None
    """Of a model that ranks by them; unset until it has seen its validation nights."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Summary of the training run, as plain values."""

    @property
    def network_weights(self) -> dict[str, Tensor]:
        """Of the autoencoder."""
        head = f"{HEAD_WEIGHTS}."
        return {k: v for k, v in self.weights.items() if not k.startswith(head)}

    @property
    def head_weights(self) -> dict[str, Tensor]:
        """Of the supervised head, if there is one."""
        return part(self.weights, HEAD_WEIGHTS)

    def require_calibration(self) -> Calibration:
        """The calibration, without which a model ranks and does not score.

        Raises:
            FraudScoringError: there is none.
        """
        if self.calibration is None:
            raise FraudScoringError(
                "The model is not calibrated, so it can rank but not score.",
                expected="a checkpoint with a calibration.",
                remedy="finish its training job, which calibrates it on the validation nights.",
            )
        return self.calibration

    def check_columns(self, available: Mapping[str, str]) -> None:
        """Check that the columns of the model are there and mean what they meant.

        Raises:
            InputMissing: names every missing column and every one with another fingerprint.
        """
        missing = [name for name in self.columns if name not in available]
        changed = [
            f"{name} (model {mark}, now {available[name]})"
            for name, mark in self.columns.items()
            if name in available and available[name] != mark
        ]
        faults = []
        if missing:
            faults.append(f"missing columns: {', '.join(missing)}")
        if changed:
            faults.append(f"columns with another meaning: {', '.join(changed)}")
        if faults:
            raise InputMissing(
                f"The features do not fit the model; {'; '.join(faults)}.",
                expected="every column that the model was trained on, defined as it was then.",
                remedy="bring the old definitions back under their names, build the features of "
                "the context's days again, or promote a model trained on today's.",
            )


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those of a prefix, without it."""
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
