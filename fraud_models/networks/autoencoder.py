"""Base class of all architectures: a causal autoencoder with a narrow code per event.

Shapes: `B` sequences, `L` events, `I` inputs, `H` hidden, `Z` code, `C` channels.

The encoder reads events up to and including `t` and compresses them into the code `z_t`. The
decoder reads only the code and predicts event `t`: a location per channel. Behaviour that fits the
card's past and that of other cards passes through the narrow code; any other behaviour increases
the error. The scale per channel is one learned number with a floor. It is not predicted per event,
because the network could then declare its most anomalous events uncertain and so reduce their
error.

An architecture implements only `encode_history`, so two architectures differ in nothing else.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from fraud_models.config import NetworkConfig
from fraud_models.networks.discriminator import Discriminator

# Initial scale above the floor.
INITIAL_SCALE = 0.2


def recurrent(
    cell: type[nn.LSTM | nn.GRU], config: NetworkConfig, num_inputs: int
) -> nn.LSTM | nn.GRU:
    """Return a recurrent history encoder of `num_layers`, [B, L, I] to [B, L, H]."""
    return cell(
        num_inputs,
        config.hidden_width,
        num_layers=config.num_layers,
        batch_first=True,
        dropout=config.dropout if config.num_layers > 1 else 0.0,
    )


class Autoencoder(nn.Module, ABC):
    """Encoder, code and decoder; `forward` returns locations and scales."""

    def __init__(self, config: NetworkConfig, num_inputs: int, num_channels: int) -> None:
        super().__init__()
        self.code_width = config.code_width
        self.scale_floor = config.scale_floor
        self.build_history_encoder(config, num_inputs)
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
    def build_history_encoder(self, config: NetworkConfig, num_inputs: int) -> None:
        """Create the modules that `encode_history` uses."""

    @abstractmethod
    def encode_history(self, inputs: Tensor) -> Tensor:
        """Encode inputs [B, L, I] as history [B, L, H]; `t` depends on events up to `t` only."""

    def encode(self, inputs: Tensor) -> Tensor:
        """Return codes [B, L, Z] of inputs [B, L, I]; `t` depends on events up to `t` only."""
        hidden = self.dropout(self.encode_history(inputs))
        codes: Tensor = self.to_code(torch.cat([hidden, inputs], dim=-1))
        return codes

    def adversarial_loss(self, codes: Tensor) -> Tensor:
        """Return the added training loss [N] of codes [N, Z] in nats; 0 without discriminator."""
        if not self.adversarial_weight:
            return torch.zeros_like(codes[:, 0])
        return self.adversarial_weight * self.discriminator.loss(codes)

    def decode(self, codes: Tensor) -> Tensor:
        """Return locations [..., C] of codes [..., Z]."""
        location: Tensor = self.decoder(codes)
        return location

    def scale(self) -> Tensor:
        """Return the scales [C], each at least the floor."""
        return self.scale_floor + functional.softplus(self.raw_scale)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return locations [B, L, C] and scales [C] of inputs [B, L, I]."""
        return self.decode(self.encode(inputs)), self.scale()
