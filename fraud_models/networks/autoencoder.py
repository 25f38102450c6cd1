"""What all architectures have in common: a narrow code between a card's history and a description.

Shapes: `B` sequences, `L` events, `I` inputs, `H` hidden, `Z` code, `C` channels.

The encoder reads events up to and including `t` and squeezes them into the code `z_t`. The
decoder sees the code alone and says what event `t` should look like: a location per channel. What
fits the card's past and what cards usually do passes the narrow code; what does not, costs nats.
The scale per channel is one learned number, floored, and not predicted per event: a network that
may call an event uncertain talks its oddest events down.

An architecture says in `remember` what it makes of the past; the rest is the same, so that two of
them differ in nothing else.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from fraud_models.config import NetworkConfig
from fraud_models.networks.discriminator import Discriminator

# Above the floor, before training.
INITIAL_SCALE = 0.2


def recurrent(
    cell: type[nn.LSTM | nn.GRU], config: NetworkConfig, num_inputs: int
) -> nn.LSTM | nn.GRU:
    """A recurrent memory of `num_layers`, [B, L, I] to [B, L, H]."""
    return cell(
        num_inputs,
        config.hidden_width,
        num_layers=config.num_layers,
        batch_first=True,
        dropout=config.dropout if config.num_layers > 1 else 0.0,
    )


class Autoencoder(nn.Module, ABC):
    """Encoder, code and decoder; `forward` does both and returns locations and scales."""

    def __init__(self, config: NetworkConfig, num_inputs: int, num_channels: int) -> None:
        super().__init__()
        self.code_width = config.code_width
        self.scale_floor = config.scale_floor
        self.make_memory(config, num_inputs)
        self.dropout = nn.Dropout(config.dropout)
        self.to_code = nn.Linear(config.hidden_width + num_inputs, config.code_width)
        self.decoder = nn.Sequential(
            nn.Linear(config.code_width, config.hidden_width),
            nn.GELU(),
            nn.Linear(config.hidden_width, config.hidden_width),
            nn.GELU(),
            nn.Linear(config.hidden_width, num_channels),
        )
        self.adversarial_weight = config.adversarial_weight
        if config.adversarial_weight:
            self.discriminator = Discriminator(config.code_width, config.hidden_width)
        start = math.log(math.expm1(INITIAL_SCALE))
        self.raw_scale = nn.Parameter(torch.full((num_channels,), start))

    @abstractmethod
    def make_memory(self, config: NetworkConfig, num_inputs: int) -> None:
        """Make the modules that `remember` uses."""

    @abstractmethod
    def remember(self, inputs: Tensor) -> Tensor:
        """[B, L, I] to [B, L, H]; what is remembered at `t` depends on events up to `t` only."""

    def encode(self, inputs: Tensor) -> Tensor:
        """[B, L, I] to codes [B, L, Z]; the code at `t` depends on events up to `t` only."""
        hidden = self.dropout(self.remember(inputs))
        codes: Tensor = self.to_code(torch.cat([hidden, inputs], dim=-1))
        return codes

    def adversarial_nats(self, codes: Tensor) -> Tensor:
        """[N, Z] codes to [N] nats that training adds; 0 without a discriminator."""
        if not self.adversarial_weight:
            return torch.zeros_like(codes[:, 0])
        return self.adversarial_weight * self.discriminator.nats(codes)

    def decode(self, codes: Tensor) -> Tensor:
        """[..., Z] to locations [..., C]."""
        location: Tensor = self.decoder(codes)
        return location

    def scale(self) -> Tensor:
        """[C] scales, each at least the floor."""
        return self.scale_floor + functional.softplus(self.raw_scale)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """[B, L, I] to locations [B, L, C] and scales [C]."""
        return self.decode(self.encode(inputs)), self.scale()
