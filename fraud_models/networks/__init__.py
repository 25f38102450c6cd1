"""Network architectures, one file each: pure `nn.Module`s, without data, training or file access.

>>> from fraud_models.recipes import lstm_autoencoder
>>> network = build(lstm_autoencoder().network, num_inputs=38, num_channels=22)
>>> network.code_width
4
"""

from __future__ import annotations

from feature_defs.errors import UsageError
from fraud_models.config import NetworkConfig
from fraud_models.networks.autoencoder import Autoencoder
from fraud_models.networks.convolution_autoencoder import ConvolutionAutoencoder
from fraud_models.networks.feed_forward_autoencoder import FeedForwardAutoencoder
from fraud_models.networks.gru_autoencoder import GruAutoencoder
from fraud_models.networks.lstm_autoencoder import LstmAutoencoder
from fraud_models.networks.transformer_autoencoder import TransformerAutoencoder

# Keyed by file name.
ARCHITECTURES: dict[str, type[Autoencoder]] = {
    "lstm_autoencoder": LstmAutoencoder,
    "gru_autoencoder": GruAutoencoder,
    "convolution_autoencoder": ConvolutionAutoencoder,
    "transformer_autoencoder": TransformerAutoencoder,
    "feed_forward_autoencoder": FeedForwardAutoencoder,
}


def build(
    config: NetworkConfig, num_inputs: int, num_channels: int, class_counts: tuple[int, ...] = ()
) -> Autoencoder:
    """Return a network of the configured architecture with fresh weights.

    `num_inputs` is C + F: channels and missing indicators. `class_counts` holds the number of
    classes of each categorical column.

    Raises:
        UsageError: the architecture is unknown; choose one that the message lists.
    """
    if config.architecture not in ARCHITECTURES:
        raise UsageError(
            f"The architecture {config.architecture!r} is unknown.",
            expected=f"one of: {', '.join(sorted(ARCHITECTURES))}.",
            remedy="correct the recipe, or add a file to fraud_models/networks.",
        )
    return ARCHITECTURES[config.architecture](config, num_inputs, num_channels, class_counts)
