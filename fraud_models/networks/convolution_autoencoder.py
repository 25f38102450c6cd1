"""Causal autoencoder that remembers with dilated convolutions (a temporal convolutional network).

After Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent
Networks for Sequence Modeling" (2018): residual blocks whose dilation doubles, padded on the left
only. With kernels of width k and n layers it sees (k - 1)(2^n - 1) events back, and no further.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fraud_models.config import NetworkConfig
from fraud_models.networks.autoencoder import Autoencoder


class _Block(nn.Module):
    """One dilated convolution and one of width 1, added to what went in; [B, L, H] to the same."""

    def __init__(self, width: int, kernel_width: int, dilation: int) -> None:
        super().__init__()
        self.dilation, self.reach = dilation, (kernel_width - 1) * dilation
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, kernel_width, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        # Padded on the left only: nothing comes from later events.
        past = functional.pad(self.norm(hidden), (0, 0, self.reach, 0))
        starts = range(0, self.reach + 1, self.dilation)
        seen = torch.cat(
            [past[:, start : past.shape[1] - self.reach + start] for start in starts], dim=-1
        )
        # As plain products a step on a CPU takes three quarters of what it takes as convolutions.
        kernel = self.convolution.weight.transpose(1, 2).flatten(1)
        found = functional.gelu(functional.linear(seen, kernel, self.convolution.bias))
        return hidden + functional.linear(found, self.mix.weight[..., 0], self.mix.bias)


class ConvolutionAutoencoder(Autoencoder):
    """Remembers a fixed number of events; shapes as in `Autoencoder`."""

    def make_memory(self, config: NetworkConfig, num_inputs: int) -> None:
        """`num_layers` blocks, each looking twice as far as the one before."""
        width = config.hidden_width
        self.widen = nn.Linear(num_inputs, width)
        self.blocks = nn.Sequential(
            *(_Block(width, config.kernel_width, 2**layer) for layer in range(config.num_layers))
        )

    def remember(self, inputs: Tensor) -> Tensor:
        """[B, L, I] to [B, L, H]."""
        hidden: Tensor = self.blocks(self.widen(inputs))
        return hidden
