"""Autoencoder without history: it reads each event's features alone. For ablation."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from fraud_models.config import NetworkConfig
from fraud_models.networks.autoencoder import Autoencoder


class FeedForwardAutoencoder(Autoencoder):
    """Encodes the event itself and no earlier one; shapes as in `Autoencoder`."""

    has_memory = False

    def build_history_encoder(self, config: NetworkConfig, num_inputs: int) -> None:
        """Create `num_layers` hidden layers."""
        widths = [num_inputs, *([config.hidden_width] * config.num_layers)]
        layers = [
            nn.Sequential(nn.Linear(before, width), nn.GELU())
            for before, width in itertools.pairwise(widths)
        ]
        self.layers = nn.Sequential(*layers)

    def encode_history(self, inputs: Tensor) -> Tensor:
        """Encode inputs [B, L, I], each event alone, as [B, L, H]."""
        hidden: Tensor = self.layers(inputs)
        return hidden
