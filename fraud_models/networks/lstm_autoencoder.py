"""Causal autoencoder that remembers with a long short-term memory."""

from __future__ import annotations

from torch import Tensor, nn

from fraud_models.config import NetworkConfig
from fraud_models.networks.autoencoder import Autoencoder, recurrent


class LstmAutoencoder(Autoencoder):
    """Remembers as far back as it has learned to; shapes as in `Autoencoder`."""

    def make_memory(self, config: NetworkConfig, num_inputs: int) -> None:
        """One LSTM of `num_layers`."""
        self.lstm = recurrent(nn.LSTM, config, num_inputs)

    def remember(self, inputs: Tensor) -> Tensor:
        """[B, L, I] to [B, L, H]."""
        hidden: Tensor = self.lstm(inputs)[0]
        return hidden
