"""Reconstruction likelihood in nats.

Every channel is described by a Student-t distribution with a location from the decoder and a
scale that is learned per channel and floored: a density over a column that is nearly always
constant (a fraud rate of 0) would otherwise grow without bound, and heavy tails keep single wild
values from steering the training.

Nats are counted in the unit in which a channel's density peaks at 1, so a perfect reconstruction
costs 0, every error is at least 0, a missing value (0) is neither rewarded nor punished and
contributions of different columns can be compared. Training adds what that choice of unit leaves
out, the logarithm of the scale, or scales could not be learned:
-log p(x) = nats + log(scale) + a constant of the distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor


def channel_nats(channels: Tensor, location: Tensor, scale: Tensor, freedom: Tensor) -> Tensor:
    """[..., C] nats of each channel (Student-t), 0 where the location is exact.

    `freedom` [C] is each channel's degrees of freedom: fewer means a heavier tail.

    >>> x, zero, one = torch.tensor([0.0, 1.0]), torch.zeros(2), torch.ones(2)
    >>> [round(v, 4) for v in channel_nats(x, zero, one, 3 * one).tolist()]
    [0.0, 0.5754]
    """
    standardised = (channels - location) / scale
    return (freedom + 1) / 2 * torch.log1p(standardised**2 / freedom)


def feature_nats(nats: Tensor, present: Tensor, owner: Tensor) -> Tensor:
    """[..., C] nats summed to [..., F] columns; exactly 0 where the value is missing.

    `owner` [C] is the column of each channel.
    """
    columns = torch.zeros(present.shape, dtype=nats.dtype, device=nats.device)
    columns = columns.index_add(-1, owner, nats)
    return torch.where(present, columns, torch.zeros_like(columns))


def training_nats(nats: Tensor, present: Tensor, owner: Tensor, scale: Tensor) -> Tensor:
    """[...] nats per event including the logarithm of the scales: what training minimises."""
    with_scale = nats + torch.log(scale)
    return feature_nats(with_scale, present, owner).sum(dim=-1)


def weighted_sum(nats: Tensor, weights: Tensor) -> Tensor:
    """Sum over events; an event of weight 0 counts for nothing, whatever its value."""
    return torch.where(weights > 0, nats * weights, torch.zeros_like(nats)).sum()
