"""Causal autoencoder that remembers with dilated convolutions (a temporal convolutional network).

After Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent
Networks for Sequence Modeling" (2018): residual blocks whose dilation doubles, padded on the left
only. With kernels of width k and n layers it sees (k - 1)(2^n - 1) events back, and no further.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from fraud_models.config import NetworkConfig
from fraud_models.networks.autoencoder import Autoencoder


class _Block(nn.Module):
    """One dilated convolution and one of width 1, added to what went in; [B, H, L] to the same."""

    def __init__(self, width: int, kernel_width: int, dilation: int) -> None:
        super().__init__()
        self.reach = (kernel_width - 1) * dilation
        self.norm = nn.LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, kernel_width, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        normed = self.norm(hidden.transpose(1, 2)).transpose(1, 2)
        # Padded on the left only: nothing comes from later events.
        past = self.convolution(functional.pad(normed, (self.reach, 0)))
        mixed: Tensor = self.mix(functional.gelu(past))
        return hidden + mixed


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
        hidden: Tensor = self.blocks(self.widen(inputs).transpose(1, 2))
        return hidden.transpose(1, 2)
