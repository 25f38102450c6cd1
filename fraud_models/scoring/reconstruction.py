"""Reconstruct selected events from their values. Training and scoring share this module.

Shapes: `B` sequences, `L` events, `N` selected events, `F` columns, `C` channels, `Z` code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fraud_models.config import ModelConfig
from fraud_models.networks import build
from fraud_models.scoring.likelihood import channel_nats, feature_nats
from fraud_models.sequences.encoding import Encoding


@dataclass(frozen=True)
class Reconstruction:
    """Selected events, observed and reconstructed."""

    channels: Tensor
    """[N, C] observed channels."""
    present: Tensor
    """[N, F] false where a value is missing."""
    codes: Tensor
    """[N, Z] codes, the decoder's only input."""
    location: Tensor
    """[N, C] expected channels."""
    nats: Tensor
    """[N, C] reconstruction error of each channel in nats."""
    errors: Tensor
    """[N, F] reconstruction error of each column in nats; 0 where missing."""


class Reconstructor(nn.Module):
    """A network with its encoding and its likelihood."""

    def __init__(self, config: ModelConfig, encoding: Encoding) -> None:
        super().__init__()
        self.network = build(config.network, encoding.num_inputs, encoding.num_channels)
        self.encoding = encoding
        self.input_limit = config.network.input_limit
        freedom = encoding.freedom(config.network)
        self.register_buffer("freedom", freedom, persistent=False)
        self.freedom: Tensor
        self.register_buffer("owner", torch.tensor(encoding.channel_owner), persistent=False)
        self.owner: Tensor

    def forward(self, values: Tensor, selected: Tensor) -> Reconstruction:
        """Reconstruct the selected events [B, L] of values [B, L, F], NaN where missing."""
        channels, present, codes = self.encode(values)
        return self.reconstruct(channels[selected], present[selected], codes[selected])

    def encode(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return channels [B, L, C], presence [B, L, F] and codes [B, L, Z] of values [B, L, F]."""
        channels, present = self.encoding.encode(values)
        inputs = self.encoding.inputs(channels, present, self.input_limit)
        return channels, present, self.network.encode(inputs)

    def reconstruct(self, channels: Tensor, present: Tensor, codes: Tensor) -> Reconstruction:
        """Decode codes [..., Z] and compare them with channels [..., C]."""
        location = self.network.decode(codes)
        nats = channel_nats(channels, location, self.network.scale(), self.freedom)
        errors = feature_nats(nats, present, self.owner)
        return Reconstruction(channels, present, codes, location, nats, errors)
