"""Causal autoencoder with attention over a card's last events.

Shapes in addition to those of `Autoencoder`: `W` events of a window, `n` windows, `A` heads.

Each event attends to itself and to earlier events, in its own window of W events and the previous
window. Cost therefore grows linearly with the length of a context, not with its square, and in each
layer every event can read W - 1 earlier events. Distance times a slope per head is subtracted from
the logit, after Press, Smith and Lewis, "Train Short, Test Long: Attention with Linear Biases"
(2022). This needs no encoding of positions, so a context can have any length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fraud_models.config import NetworkConfig
from fraud_models.networks.autoencoder import Autoencoder

WINDOW = 64


def attention_bias(num_heads: int, window: int) -> Tensor:
    """Return the bias [A, W, 2W] of the logits: minus distance times the head's slope, or -inf.

    >>> attention_bias(1, 2)[0].tolist()
    [[-inf, -1.0, 0.0, -inf], [-inf, -inf, -1.0, 0.0]]
    """
    query = torch.arange(window)[:, None] + window
    distance = query - torch.arange(2 * window)[None, :]
    slopes = 2.0 ** (-8.0 * torch.arange(num_heads) / num_heads)
    bias = slopes[:, None, None] * -distance
    return bias.masked_fill((distance < 0) | (distance >= window), -torch.inf)


class _Layer(nn.Module):
    """Residual attention and feed-forward sublayers; [B, L, H] to [B, L, H]."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_attention = nn.Linear(width, 3 * width)
        self.from_attention = nn.Linear(width, width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.register_buffer("bias", attention_bias(num_heads, WINDOW), persistent=False)
        self.bias: Tensor

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.from_attention(self._attend(self.attention_norm(hidden)))
        mixed: Tensor = self.mix(self.norm(hidden))
        return hidden + mixed

    def _attend(self, hidden: Tensor) -> Tensor:
        batch, length, width = hidden.shape
        padded = (length + WINDOW - 1) // WINDOW * WINDOW
        parts = functional.pad(self.to_attention(hidden), (0, 0, 0, WINDOW - 1))[:, :padded]
        # Shape of each: [B, n, W, A, H / A].
        query, key, value = (
            part.reshape(batch, -1, WINDOW, self.num_heads, width // self.num_heads)
            for part in parts.chunk(3, dim=-1)
        )
        key, value = _with_previous_window(key), _with_previous_window(value)
        logits = torch.einsum("bnqah,bnkah->bnaqk", query, key)
        logits = logits / (width // self.num_heads) ** 0.5 + self.bias
        # The first window has no previous one: mask the padding.
        logits[:, 0, :, :, :WINDOW] = -torch.inf
        attended = torch.einsum("bnaqk,bnkah->bnqah", logits.softmax(dim=-1), value)
        return attended.reshape(batch, -1, width)[:, :length]


def _with_previous_window(parts: Tensor) -> Tensor:
    """Prepend the previous window to each window: [B, n, W, ...] to [B, n, 2W, ...]."""
    previous = functional.pad(parts, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1]
    return torch.cat([previous, parts], dim=2)


class TransformerAutoencoder(Autoencoder):
    """Encodes history by attention to single earlier events; shapes as in `Autoencoder`."""

    def build_history_encoder(self, config: NetworkConfig, num_inputs: int) -> None:
        """Create `num_layers` layers of `num_heads` heads."""
        self.widen = nn.Linear(num_inputs, config.hidden_width)
        self.layers = nn.Sequential(
            *(_Layer(config.hidden_width, config.num_heads) for _ in range(config.num_layers))
        )

    def encode_history(self, inputs: Tensor) -> Tensor:
        """Encode inputs [B, L, I] as history [B, L, H]."""
        hidden: Tensor = self.layers(self.widen(inputs))
        return hidden
