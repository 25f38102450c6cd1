"""Causal autoencoder that remembers with gated recurrent units: an LSTM with a gate less."""

from __future__ import annotations

from torch import Tensor, nn

from fraud_models.config import NetworkConfig
from fraud_models.networks.autoencoder import Autoencoder, recurrent


class GruAutoencoder(Autoencoder):
    """Remembers as far back as it has learned to; shapes as in `Autoencoder`."""

    def make_memory(self, config: NetworkConfig, num_inputs: int) -> None:
        """One GRU of `num_layers`."""
        self.gru = recurrent(nn.GRU, config, num_inputs)

    def remember(self, inputs: Tensor) -> Tensor:
        """[B, L, I] to [B, L, H]."""
        hidden: Tensor = self.gru(inputs)[0]
        return hidden
