"""A trained model in memory: weights and everything needed to score with them.

`fraud_models.registry.checkpoint` saves and loads it.
"""

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

# Prefix of the names of a supervised head's weights.
HEAD_WEIGHTS = "head"


@dataclass(frozen=True)
class TrainedModel:
    """Config, encoding, weights, calibration and lineage of a trained model."""

    config: ModelConfig
    encoding: Encoding
    columns: Mapping[str, str]
    """Feature columns that the model reads, with fingerprints of their definitions."""
    data_versions: Mapping[str, int]
    """Version of each table that the training data was read from."""
    as_of: str
    """Date (YYYY-MM-DD): all training data was known before 00:00 UTC of this day."""
    weights: Mapping[str, Tensor]
    calibration: Calibration | None = None
    """Unset until the calibration job has ranked the validation nights."""
    rarities: Rarities | None = None
    """Only if the ranking is by rarity; unset until they are fitted on the validation nights."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Summary of the training run, as plain values."""

    @property
    def network_weights(self) -> dict[str, Tensor]:
        """Weights of the autoencoder."""
        head = f"{HEAD_WEIGHTS}."
        return {k: v for k, v in self.weights.items() if not k.startswith(head)}

    @property
    def head_weights(self) -> dict[str, Tensor]:
        """Weights of the supervised head, without their prefix; empty if there is no head."""
        return tensors_under(self.weights, HEAD_WEIGHTS)

    def require_calibration(self) -> Calibration:
        """Return the calibration, which a model needs to score.

        Raises:
            FraudScoringError: the model is not calibrated; finish its training job.
        """
        if self.calibration is None:
            raise FraudScoringError(
                "The model is not calibrated, so it can rank but not score.",
                expected="a checkpoint with a calibration.",
                remedy="finish its training job, which calibrates it on the validation nights.",
            )
        return self.calibration

    def check_columns(self, available: Mapping[str, str]) -> None:
        """Check that the model's columns are available with unchanged definitions.

        Raises:
            InputMissing: columns are missing or have another fingerprint; the message lists all of
                them. Restore the old definitions, or promote a model trained on today's.
        """
        missing = [name for name in self.columns if name not in available]
        changed = [
            f"{name} (model {fingerprint}, now {available[name]})"
            for name, fingerprint in self.columns.items()
            if name in available and available[name] != fingerprint
        ]
        faults = []
        if missing:
            faults.append(f"missing columns: {', '.join(missing)}")
        if changed:
            faults.append(f"columns with another definition: {', '.join(changed)}")
        if faults:
            raise InputMissing(
                f"The features do not match the model: {'; '.join(faults)}.",
                expected="every column that the model was trained on, defined as it was then.",
                remedy="restore the old definitions under their names, rebuild the features of the "
                "context's days, or promote a model trained on today's definitions.",
            )


def tensors_under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors named `<prefix>.<name>`, keyed by name.

    >>> import torch
    >>> tensors_under({"head.a": torch.zeros(1), "b": torch.zeros(1)}, "head")
    {'a': tensor([0.])}
    """
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
