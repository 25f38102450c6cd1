"""A discriminator on codes: adversarial training, as an option of any architecture.

As in adversarial autoencoders (Makhzani et al., "Adversarial Autoencoders", 2015): a small network
learns to tell the codes of events from draws of a standard normal distribution, and the encoder
learns to be taken for one. Codes of ordinary events then fill one compact region, so that what an
odd event needs to be described lies outside of what the decoder knows. Both learn in one step: on
its way from the discriminator to the encoder the gradient changes its sign (Ganin and Lempitsky,
"Unsupervised Domain Adaptation by Backpropagation", 2015).

Shapes: `N` events, `Z` code.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Reversed(torch.autograd.Function):
    """The same forwards, the opposite backwards."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor) -> Tensor:
        return codes.view_as(codes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


class Discriminator(nn.Module):
    """Two layers from a code to the log odds that it is a draw and no event's code."""

    def __init__(self, code_width: int, hidden_width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(code_width, hidden_width),
            nn.GELU(),
            nn.Linear(hidden_width, 1),
        )

    def forward(self, codes: Tensor) -> Tensor:
        """[N, Z] to [N]."""
        odds: Tensor = self.layers(codes)
        return odds[:, 0]

    def nats(self, codes: Tensor) -> Tensor:
        """[N, Z] codes to [N] nats, those of as many fresh draws included.

        Less is better for the discriminator, and through the reversed gradient worse for what made
        the codes. Draws follow from torch's seed, which a training sets per epoch and rank.
        """
        draws = torch.randn_like(codes)
        taken_for_draw = self(_Reversed.apply(codes))
        return functional.softplus(-self(draws)) + functional.softplus(taken_for_draw)
