"""The phases of a training: what learns, from which events, and for how long.

First the autoencoder learns to describe events. A semi-supervised model has a second phase: the
autoencoder stays as it is, so what it says of labelled events is gathered once, and a head learns
labels from that.
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
    LABELLED,
    PURPOSE,
    TARGET,
    VALIDATION_TARGET,
)
from fraud_models.training.objectives import HeadObjective, ReconstructionObjective
from fraud_models.training.prefetch import Choice
from fraud_models.training.process_group import Ranks

AUTOENCODER, HEAD = "autoencoder", "head"
LEAST_LEARNING_RATE_SHARE = 0.05


@dataclass
class Phase:
    """One phase, on the device of this rank."""

    name: str
    learner: nn.Module
    """Whose weights are learned and kept."""
    objective: nn.Module
    replica: nn.Module
    """The objective with gradients averaged over ranks."""
    optimiser: torch.optim.Optimizer
    learning_rate: float
    epochs: int
    patience: int
    teaches: Choice
    """Which events [B, L] are learned from, by their roles."""
    judges: Choice | None
    """Which events say whether an epoch was better; without any the last epoch is the best."""
    frozen: Reconstructor | None
    """What says of events all that is learned from, and stays as it is; unset: events themselves
    are."""

    def set_learning_rate(self, epoch: int) -> float:
        """Of an epoch, counted from 1: along a half cosine down to a twentieth."""
        done = (epoch - 1) / max(1, self.epochs - 1)
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        share = LEAST_LEARNING_RATE_SHARE + (1 - LEAST_LEARNING_RATE_SHARE) * cosine
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * share
        return self.learning_rate * share


def phases_of(config: ModelConfig, encoding: Encoding, ranks: Ranks) -> list[Callable[[], Phase]]:
    """Makers of the phases, in order; one is called when its phase begins.

    They share the autoencoder, so a later one finds it as an earlier one left it.
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
            teaches=lambda roles: np.equal(roles & PURPOSE, TARGET),
            judges=lambda roles: np.equal(roles & PURPOSE, VALIDATION_TARGET),
            frozen=None,
        )

    def head() -> Phase:
        torch.manual_seed(config.optimisation.seed)
        made = FraudHead.of(config, encoding).to(ranks.device)
        objective = HeadObjective(made)
        rate, decay = config.head.learning_rate, config.head.weight_decay
        return Phase(
            name=HEAD,
            learner=made,
            objective=objective,
            replica=ranks.replicate(objective),
            optimiser=torch.optim.AdamW(made.parameters(), lr=rate, weight_decay=decay),
            learning_rate=rate,
            epochs=config.head.epochs,
            patience=config.head.epochs,
            teaches=lambda roles: np.not_equal(roles & LABELLED, 0),
            # The newest labels teach: holding them out would cost more than it tells.
            judges=None,
            frozen=reconstructor,
        )

    return [autoencoder, head] if config.supervision == SEMI_SUPERVISED else [autoencoder]
