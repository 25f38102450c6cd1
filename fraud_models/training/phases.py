"""The phases of a training: which module is trained, on which events, and for how many epochs.

First the autoencoder is trained to reconstruct events. A semi-supervised model has a second phase:
the autoencoder is frozen, its output for labelled events is collected once, and a head is trained
on it to predict labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from fraud_models.config import SEMI_SUPERVISED, ModelConfig
from fraud_models.networks.fraud_head import FraudHead
from fraud_models.scoring.reconstruction import Reconstructor
from fraud_models.sequences.encoding import Encoding
from fraud_models.sequences.event_batch import (
    LABEL_MASK,
    PURPOSE_MASK,
    TARGET,
    VALIDATION_TARGET,
)
from fraud_models.training.objectives import HeadObjective, ReconstructionObjective
from fraud_models.training.prefetch import EventSelector
from fraud_models.training.process_group import Ranks

AUTOENCODER, HEAD = "autoencoder", "head"
MIN_LEARNING_RATE_SHARE = 0.05


@dataclass
class Phase:
    """One phase, on the device of this rank."""

    name: str
    learner: nn.Module
    """Module whose weights are trained and saved."""
    objective: nn.Module
    replica: nn.Module
    """The objective, with gradients averaged over ranks."""
    optimiser: torch.optim.Optimizer
    learning_rate: float
    epochs: int
    patience: int
    select_training: EventSelector
    """Selects the training events [B, L] by their roles."""
    select_validation: EventSelector | None
    """Selects the validation events [B, L]; unset: no validation, the last epoch is the best."""
    frozen: Reconstructor | None
    """Frozen autoencoder whose output is the training data; unset: the events are."""

    def set_learning_rate(self, epoch: int) -> float:
        """Set and return the learning rate of an epoch, counted from 1.

        It decays along half a cosine to a twentieth of its first value.
        """
        done = (epoch - 1) / max(1, self.epochs - 1)
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        share = MIN_LEARNING_RATE_SHARE + (1 - MIN_LEARNING_RATE_SHARE) * cosine
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * share
        return self.learning_rate * share


def training_phases(
    config: ModelConfig, encoding: Encoding, ranks: Ranks
) -> list[Callable[[], Phase]]:
    """Return functions that create the phases, in order; call each when its phase begins.

    They share the autoencoder, so a later phase uses the weights of an earlier one.
    """
    torch.manual_seed(config.optimisation.seed)
    reconstructor = Reconstructor(config, encoding).to(ranks.device)

    def autoencoder() -> Phase:
        optimisation = config.optimisation
        objective = ReconstructionObjective(reconstructor)
        network = reconstructor.network
        return Phase(
            name=AUTOENCODER,
            learner=network,
            objective=objective,
            replica=ranks.replicate(objective),
            optimiser=torch.optim.Adam(network.parameters(), lr=optimisation.learning_rate),
            learning_rate=optimisation.learning_rate,
            epochs=optimisation.epochs,
            patience=optimisation.patience,
            select_training=lambda roles: np.equal(roles & PURPOSE_MASK, TARGET),
            select_validation=lambda roles: np.equal(roles & PURPOSE_MASK, VALIDATION_TARGET),
            frozen=None,
        )

    def head() -> Phase:
        torch.manual_seed(config.optimisation.seed)
        fraud_head = FraudHead.from_config(config, encoding).to(ranks.device)
        objective = HeadObjective(fraud_head)
        rate, decay = config.head.learning_rate, config.head.weight_decay
        return Phase(
            name=HEAD,
            learner=fraud_head,
            objective=objective,
            replica=ranks.replicate(objective),
            optimiser=torch.optim.AdamW(fraud_head.parameters(), lr=rate, weight_decay=decay),
            learning_rate=rate,
            epochs=config.head.epochs,
            patience=config.head.epochs,
            select_training=lambda roles: np.not_equal(roles & LABEL_MASK, 0),
            # The newest labels are too valuable to hold out for validation.
            select_validation=None,
            frozen=reconstructor,
        )

    return [autoencoder, head] if config.supervision == SEMI_SUPERVISED else [autoencoder]
