"""From values to what the network says of chosen events: training and scoring share this file.

Shapes: `B` sequences, `L` events, `N` chosen events, `F` columns, `C` channels, `Z` code.
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
    """Chosen events and what the network made of them."""

    channels: Tensor
    """[N, C] what was."""
    present: Tensor
    """[N, F] false where a value is missing."""
    codes: Tensor
    """[N, Z] all that the decoder saw."""
    location: Tensor
    """[N, C] what the network says should be."""
    nats: Tensor
    """[N, C] what the difference costs."""
    errors: Tensor
    """[N, F] the same by column; 0 where missing."""


class Reconstructor(nn.Module):
    """A network with the encoding and the likelihood that belong to it."""

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

    def forward(self, values: Tensor, chosen: Tensor) -> Reconstruction:
        """[B, L, F] values, NaN for missing, and [B, L] which events to reconstruct."""
        channels, present, codes = self.read(values)
        return self.describe(channels[chosen], present[chosen], codes[chosen])

    def read(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, L, F] values to channels [B, L, C], presence [B, L, F] and codes [B, L, Z]."""
        channels, present = self.encoding.encode(values)
        inputs = self.encoding.inputs(channels, present, self.input_limit)
        return channels, present, self.network.encode(inputs)

    def describe(self, channels: Tensor, present: Tensor, codes: Tensor) -> Reconstruction:
        """What the network says of events, from their codes, and what that costs."""
        location = self.network.decode(codes)
        nats = channel_nats(channels, location, self.network.scale(), self.freedom)
        errors = feature_nats(nats, present, self.owner)
        return Reconstruction(channels, present, codes, location, nats, errors)
