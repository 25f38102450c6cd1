"""A discriminator on codes: adversarial training, as an option of any architecture.

As in adversarial autoencoders (Makhzani et al., "Adversarial Autoencoders", 2015): a small network
learns to tell the codes of events from samples of a standard normal distribution, and the encoder
learns to make them indistinguishable. Codes of ordinary events then fill one compact region, so
an anomalous event needs a code outside the region on which the decoder was trained. Both are
trained in one step: between discriminator and encoder the gradient is reversed (Ganin and
Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", 2015).

Shapes: `N` events, `Z` code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _GradientReversal(torch.autograd.Function):
    """Identity in the forward pass; negates the gradient in the backward pass."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor) -> Tensor:
        return codes.view_as(codes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class Discriminator(nn.Module):
    """Two layers from a code to the log odds that it is a sample and not an event's code."""

    def __init__(self, code_width: int, hidden_width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(code_width, hidden_width),
            nn.GELU(),
            nn.Linear(hidden_width, 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        """Return log odds [N] of codes [N, Z]."""
        odds: Tensor = self.layers(codes)
        return odds[:, 0]

    def loss(self, codes: Tensor) -> Tensor:
        """Return the loss [N] in nats on codes [N, Z] and on as many fresh samples.

        The discriminator minimises it; through the reversed gradient the encoder maximises it.
        Samples follow from torch's seed, which training sets per epoch and rank.
        """
        samples = torch.randn_like(codes)
        code_odds = self(_GradientReversal.apply(codes))
        return functional.softplus(-self(samples)) + functional.softplus(code_odds)
