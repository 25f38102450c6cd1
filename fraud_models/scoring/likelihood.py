"""Reconstruction likelihood in nats.

Every channel has a Student-t distribution. Its location comes from the decoder; its scale is
learned per channel and has a floor. Without the floor, the density of an almost constant column (a
fraud rate of 0) would grow without bound. The heavy tails keep single outliers from dominating
training.

Each channel is measured in the unit in which its density peaks at 1. A perfect reconstruction then
costs 0, every error is at least 0, a missing value (0) is neither rewarded nor penalised, and
contributions of different columns are comparable. Training adds the logarithm of the scale, which
this choice of unit omits; otherwise scales could not be learned:
-log p(x) = nats + log(scale) + a constant of the distribution.
"""

from __future__ import annotations

import torch
from torch import Tensor


def channel_nats(channels: Tensor, location: Tensor, scale: Tensor, freedom: Tensor) -> Tensor:
    """Return nats [..., C] of each channel (Student-t); 0 where the location is exact.

    `freedom` [C] holds each channel's degrees of freedom; a lower number means a heavier tail.

    >>> x, zero, one = torch.tensor([0.0, 1.0]), torch.zeros(2), torch.ones(2)
    >>> [round(v, 4) for v in channel_nats(x, zero, one, 3 * one).tolist()]
    [0.0, 0.5754]
    """
    standardised = (channels - location) / scale
    return (freedom + 1) / 2 * torch.log1p(standardised**2 / freedom)


def feature_nats(nats: Tensor, present: Tensor, owner: Tensor) -> Tensor:
    """Sum nats [..., C] of channels to columns [..., F]; exactly 0 where the value is missing.

    `owner` [C] holds the column of each channel.
    """
    columns = torch.zeros(present.shape, dtype=nats.dtype, device=nats.device)
    columns = columns.index_add(-1, owner, nats)
    return torch.where(present, columns, torch.zeros_like(columns))


def training_nats(nats: Tensor, present: Tensor, owner: Tensor, scale: Tensor) -> Tensor:
    """Return nats per event [...], including the log of the scales: the training loss."""
    with_scale = nats + torch.log(scale)
    return feature_nats(with_scale, present, owner).sum(dim=-1)


def weighted_sum(nats: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum over events; events of weight 0 are ignored, even if they are NaN."""
    return torch.where(weights > 0, nats * weights, torch.zeros_like(nats)).sum()
