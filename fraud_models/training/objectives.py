"""Training objectives: modules from a batch to its loss in nats, so that DDP can wrap them.

Both return the weighted sum of nats over events. If no event has a weight, one event of weight 0 is
used, so that every parameter takes part in every step of every rank, as DDP requires.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fraud_models.networks.fraud_head import FraudHead
from fraud_models.scoring.likelihood import training_nats, weighted_sum
from fraud_models.scoring.reconstruction import Reconstructor


class ReconstructionObjective(nn.Module):
    """The reconstruction loss; it ignores labels.

    Takes values [B, L, F], weights [B, L] and labels [B, L].
    """

    def __init__(self, reconstructor: Reconstructor) -> None:
        super().__init__()
        self.reconstructor = reconstructor

    def forward(self, values: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted sum of nats, with the log of the scales so that these are learned."""
        selected = _select(weights)
        reconstruction = self.reconstructor(values, selected)
        peak = torch.log(self.reconstructor.network.scale())
        if reconstruction.category_peaks.shape[-1]:
            channels = peak.expand_as(reconstruction.channels)
            peak = torch.cat([channels, reconstruction.category_peaks], dim=-1)
        nats = training_nats(
            reconstruction.nats, reconstruction.present, self.reconstructor.owner, peak
        )
        if self.training:
            nats = nats + self.reconstructor.network.adversarial_loss(reconstruction.codes)
        return weighted_sum(nats, weights[selected])


class HeadObjective(nn.Module):
    """The classification loss of the head, on the output of a frozen autoencoder.

    Takes events [N, C + F + Z + K] (see `head_dataset`), weights [N] and labels [N].
    """

    def __init__(self, head: FraudHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, events: Tensor, weights: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted sum of binary cross-entropies, in nats."""
        channels, errors, codes, categories = torch.split(events, list(self.head.widths), dim=-1)
        odds = self.head(self.head.inputs(channels, errors, codes, categories.long()))
        nats = functional.binary_cross_entropy_with_logits(odds, labels, reduction="none")
        return weighted_sum(nats, weights)


def _select(weights: Tensor) -> Tensor:
    selected = weights > 0
    if not bool(selected.any()):
        selected = torch.zeros_like(selected)
        selected[0, 0] = True
    return selected
