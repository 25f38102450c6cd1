"""What a training minimises: modules from a batch to nats, whole, so that DDP can wrap them.

Both give the weighted sum of nats over events. Where no event has a weight one of weight 0 stands
in, so that every parameter takes part in every step of every rank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fraud_models.networks.fraud_head import FraudHead
from fraud_models.scoring.likelihood import training_nats, weighted_sum
from fraud_models.scoring.reconstruction import Reconstructor


class ReconstructionObjective(nn.Module):
    """How badly events are described; labels say nothing here.

    Takes values [B, L, F], weights [B, L] and labels [B, L].
    """

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
    """How badly labels are foretold by the head, from what the autoencoder below it has said.

    Takes events [N, C + F + Z] (see `labelled_events`), weights [N] and labels [N].
    """

    def __init__(self, head: FraudHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, events: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
        """Nats of the labels: binary cross-entropy."""
        channels, errors, codes = torch.split(events, list(self.head.widths), dim=-1)
        odds = self.head(self.head.inputs(channels, errors, codes))
        nats = functional.binary_cross_entropy_with_logits(odds, labels, reduction="none")
        return weighted_sum(nats, weights)


def _chosen(weights: Tensor) -> Tensor:
    chosen = weights > 0
    if not bool(chosen.any()):
        chosen = torch.zeros_like(chosen)
        chosen[0, 0] = True
    return chosen
