"""What a training minimises: modules from a batch to nats, whole, so that DDP can wrap them.

Both take values [B, L, F], weights [B, L] and labels [B, L], and give the weighted sum of nats
over events. Where no event has a weight one of weight 0 stands in, so that every parameter takes
part in every step of every rank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fraud_models.loss import training_nats, weighted_sum
from fraud_models.networks.fraud_head import FraudHead
from fraud_models.reconstruction import Reconstructor


class ReconstructionObjective(nn.Module):
    """How badly events are described; labels say nothing here."""

    def __init__(self, reconstructor: Reconstructor) -> None:
        super().__init__()
        self.reconstructor = reconstructor

    def forward(self, values: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
        """Nats, with the logarithm of the scales, which makes them learnable."""
        chosen = _chosen(weights)
        found = self.reconstructor(values, chosen)
        scale = self.reconstructor.network.scale()
        nats = training_nats(found.nats, found.present, self.reconstructor.owner, scale)
        if self.training:
            nats = nats + self.reconstructor.network.adversarial_nats(found.codes)
        return weighted_sum(nats, weights[chosen])


class HeadObjective(nn.Module):
    """How badly labels are foretold by the head; the autoencoder below it stays as it is."""

    def __init__(self, reconstructor: Reconstructor, head: FraudHead) -> None:
        super().__init__()
        self.reconstructor = reconstructor.requires_grad_(False)
        self.head = head

    def train(self, mode: bool = True) -> HeadObjective:
        """Training mode is the head's alone."""
        super().train(mode)
        self.reconstructor.eval()
        return self

    def forward(self, values: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
        """Nats of the labels: binary cross-entropy."""
        chosen = _chosen(weights)
        with torch.no_grad():
            found = self.reconstructor(values, chosen)
        odds = self.head(self.head.inputs(found.channels, found.errors, found.codes))
        nats = functional.binary_cross_entropy_with_logits(odds, labels[chosen], reduction="none")
        return weighted_sum(nats, weights[chosen])


def _chosen(weights: Tensor) -> Tensor:
    chosen = weights > 0
    if not bool(chosen.any()):
        chosen = torch.zeros_like(chosen)
        chosen[0, 0] = True
    return chosen
