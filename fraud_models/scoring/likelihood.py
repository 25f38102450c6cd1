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

A category has a probability per class (softmax of the decoder's logits). A small share of it is
spread evenly over all classes, which bounds the error of a class that training never saw. Its unit
is chosen in the same way: the most likely class costs 0, another one costs the logarithm of how
many times less likely it is. So an ordinary value costs little also where many values are ordinary,
for instance among 200 cities. Training adds what the most likely class costs:
-log p(x) = nats + peak.

Shapes: `C` channels, `F` columns, `K` categorical columns with `G` classes in total.
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
    """Sum nats [..., C + K] of outputs to columns [..., F]; exactly 0 where a value is missing.

    `owner` [C + K] holds the column of each output.
    """
    columns = torch.zeros(present.shape, dtype=nats.dtype, device=nats.device)
    columns = columns.index_add(-1, owner, nats)
    return torch.where(present, columns, torch.zeros_like(columns))


def category_nats(
    logits: Tensor, codes: Tensor, class_counts: tuple[int, ...], floor: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return nats, peaks and most likely codes, each [..., K], of logits [..., G].

    `codes` [..., K] are the observed ones; for a missing value, whose code has no class, the nats
    mean nothing. `floor` is the share of probability that is spread evenly over the classes.

    >>> logits, codes = torch.tensor([0.0, 2.0, 0.0]), torch.tensor([0])
    >>> [round(part.item(), 2) for part in category_nats(logits, codes, (3,), 1e-9)]
    [2.0, 0.24, 1]
    """
    # Under autocast logits are bfloat16, in which a sum of probabilities would be rough.
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nats, peaks, likely = [], [], []
    for k, part in enumerate(torch.split(exact, list(class_counts), dim=-1)):
        num_classes = class_counts[k]
        shares = (1 - floor) * part.softmax(dim=-1) + floor / num_classes
        costs = -torch.log(shares)
        peak, code = costs.min(dim=-1)
        observed = codes[..., k : k + 1].clamp(max=num_classes - 1)
        nats.append(costs.gather(-1, observed)[..., 0] - peak)
        peaks.append(peak)
        likely.append(code)
    return torch.stack(nats, dim=-1), torch.stack(peaks, dim=-1), torch.stack(likely, dim=-1)


def training_nats(nats: Tensor, present: Tensor, owner: Tensor, peak: Tensor) -> Tensor:
    """Return the training loss in nats per event [...], from nats [..., C + K].

    `peak` [..., C + K] is what each output costs at its peak: the log of a channel's scale, and a
    category's peak.
    """
    return feature_nats(nats + peak, present, owner).sum(dim=-1)


def weighted_sum(nats: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum over events; events of weight 0 are ignored, even if they are NaN."""
    return torch.where(weights > 0, nats * weights, torch.zeros_like(nats)).sum()
