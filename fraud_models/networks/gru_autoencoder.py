"""Causal autoencoder with gated recurrent units over the history: an LSTM with one gate fewer."""

from __future__ import annotations

from torch import Tensor, nn

from fraud_models.config import NetworkConfig
from fraud_models.networks.autoencoder import Autoencoder, recurrent


class GruAutoencoder(Autoencoder):
    """Encodes a history of unlimited length; shapes as in `Autoencoder`."""

    def build_history_encoder(self, config: NetworkConfig, num_inputs: int) -> None:
        """Create one GRU of `num_layers`."""
        self.gru = recurrent(nn.GRU, config, num_inputs)

    def encode_history(self, inputs: Tensor) -> Tensor:
        """Encode inputs [B, L, I] as history [B, L, H]."""
        hidden: Tensor = self.gru(inputs)[0]
        return hidden
