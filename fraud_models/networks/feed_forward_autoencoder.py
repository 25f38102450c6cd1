"""Autoencoder without a memory: each event by its features alone, the ablation without history."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from fraud_models.config import NetworkConfig
from fraud_models.networks.autoencoder import Autoencoder


class FeedForwardAutoencoder(Autoencoder):
    """Remembers nothing: `remember` looks at the event itself; shapes as in `Autoencoder`."""

    def make_memory(self, config: NetworkConfig, num_inputs: int) -> None:
        """`num_layers` hidden layers."""
        widths = [num_inputs, *([config.hidden_width] * config.num_layers)]
        layers = [
            nn.Sequential(nn.Linear(before, width), nn.GELU())
            for before, width in itertools.pairwise(widths)
        ]
        self.layers = nn.Sequential(*layers)

    def remember(self, inputs: Tensor) -> Tensor:
        """[B, L, I] to [B, L, H]."""
        hidden: Tensor = self.layers(inputs)
        return hidden
