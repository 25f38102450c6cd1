"""Reconstruct selected events from their values. Training and scoring share this module.

Shapes: `B` sequences, `L` events, `N` selected events, `F` columns, `C` channels, `Z` code,
`K` categorical columns with `G` classes in total.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fraud_models.config import ModelConfig
from fraud_models.networks import build
from fraud_models.scoring.likelihood import category_nats, channel_nats, feature_nats
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
    """[N, C + K] reconstruction error of each channel and category in nats."""
    errors: Tensor
    """[N, F] reconstruction error of each column in nats; 0 where missing."""
    categories: Tensor
    """[N, K] observed codes; the number of classes where missing."""
    likely: Tensor
    """[N, K] the most likely codes."""
    category_peaks: Tensor
    """[N, K] nats of the most likely codes, which the errors leave out."""


class Reconstructor(nn.Module):
    """A network with its encoding and its likelihood."""

    def __init__(self, config: ModelConfig, encoding: Encoding) -> None:
        super().__init__()
        self.class_counts = encoding.class_counts
        self.network = build(
            config.network, encoding.num_inputs, encoding.num_channels, self.class_counts
        )
        self.encoding = encoding
        self.input_limit = config.network.input_limit
        self.category_floor = config.network.category_floor
        freedom = encoding.freedom(config.network)
        self.register_buffer("freedom", freedom, persistent=False)
        self.freedom: Tensor
        self.register_buffer("owner", torch.tensor(encoding.output_owner), persistent=False)
        self.owner: Tensor

    def forward(self, values: Tensor, selected: Tensor) -> Reconstruction:
        """Reconstruct the selected events [B, L] of values [B, L, F], NaN where missing."""
        return self.reconstruct(*(part[selected] for part in self.encode(values)))

    def encode(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return what `reconstruct` reads of values [B, L, F], for every event.

        That is channels [B, L, C], presence [B, L, F], codes [B, L, Z], categories [B, L, K] and
        summaries [B, L, S], whose width is 0 without categories.
        """
        channels, present = self.encoding.encode(values)
        categories = self.encoding.codes(values)
        inputs = self.encoding.inputs(channels, present, self.input_limit)
        summaries = self.network.summarise(inputs, categories)
        codes = self.network.to_code(summaries)
        kept = summaries if self.class_counts else summaries[..., :0]
        return channels, present, codes, categories, kept

    def reconstruct(
        self,
        channels: Tensor,
        present: Tensor,
        codes: Tensor,
        categories: Tensor,
        summaries: Tensor,
    ) -> Reconstruction:
        """Decode codes [..., Z] and compare them with channels [..., C]; expect categories."""
        location = self.network.decode(codes)
        nats = channel_nats(channels, location, self.network.scale(), self.freedom)
        likely, peaks = categories, torch.zeros_like(nats[..., :0])
        if self.class_counts:
            logits = self.network.logits(summaries)
            classes = (categories, self.class_counts, self.category_floor)
            added, peaks, likely = category_nats(logits, *classes)
            nats = torch.cat([nats, added], dim=-1)
        errors = feature_nats(nats, present, self.owner)
        return Reconstruction(
            channels, present, codes, location, nats, errors, categories, likely, peaks
        )
