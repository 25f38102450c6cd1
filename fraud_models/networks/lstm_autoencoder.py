"""Causal autoencoder with a long short-term memory over the history."""

from __future__ import annotations

from torch import Tensor, nn

from fraud_models.config import NetworkConfig
from fraud_models.networks.autoencoder import Autoencoder, recurrent


class LstmAutoencoder(Autoencoder):
    """Encodes a history of unlimited length; shapes as in `Autoencoder`."""

    def build_history_encoder(self, config: NetworkConfig, num_inputs: int) -> None:
        """Create one LSTM of `num_layers`."""
        self.lstm = recurrent(nn.LSTM, config, num_inputs)

    def encode_history(self, inputs: Tensor) -> Tensor:
        """Encode inputs [B, L, I] as history [B, L, H]."""
        hidden: Tensor = self.lstm(inputs)[0]
        return hidden
