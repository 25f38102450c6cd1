"""The supervised head: code, errors and values of an event to the log odds that it is a fraud.

Shapes: `N` events, `F` columns, `C` channels, `Z` code, `W = C + F + Z` inputs.

Its inputs are 0 for a usual event: values at their centre, no errors. Why an event ranks high is
told by integrated gradients along the straight line from there to the event (Sundararajan, Taly
and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017): each input's share is its distance
times the mean of the gradient along the line, and the shares sum to the difference of the log
odds, which is the ranking value. A column's share is that of its channels and of its error; what
the code says belongs to no column and is the share of the card's history.
"""

from __future__ import annotations

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn

from fraud_models.config import HeadConfig, ModelConfig
from fraud_models.encoding import Encoding

# Encoded units, as of the codes: what lies beyond looks alike to the head.
INPUT_LIMIT = 8.0
# Points of Gauss and Legendre's rule along the line; exact for polynomials of degree 31.
NUM_POINTS = 16


class FraudHead(nn.Module):
    """Two hidden layers."""

    def __init__(
        self, config: HeadConfig, channel_owner: tuple[int, ...], num_columns: int, code_width: int
    ) -> None:
        super().__init__()
        owner = [*channel_owner, *range(num_columns), *([num_columns] * code_width)]
        self.register_buffer("owner", torch.tensor(owner), persistent=False)
        self.owner: Tensor
        self.num_columns = num_columns
        self.layers = nn.Sequential(
            nn.Linear(len(owner), config.hidden_width),
            nn.SiLU(),
            nn.Linear(config.hidden_width, config.hidden_width),
            nn.SiLU(),
            nn.Linear(config.hidden_width, 1),
        )

    @classmethod
    def of(cls, config: ModelConfig, encoding: Encoding) -> FraudHead:
        """A head with fresh weights for what a model of this config says of events."""
        owner, columns = encoding.channel_owner, len(encoding.columns)
        return cls(config.head, owner, columns, config.network.code_width)

    @staticmethod
    def inputs(channels: Tensor, errors: Tensor, codes: Tensor) -> Tensor:
        """[..., W] of [..., C] channels, [..., F] errors and [..., Z] codes."""
        bounded = (part.clamp(-INPUT_LIMIT, INPUT_LIMIT) for part in (channels, codes))
        values, code = bounded
        return torch.cat([values, torch.log1p(errors), code], dim=-1)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., W] to [...] log odds."""
        odds: Tensor = self.layers(inputs)
        return odds[..., 0]

    def contributions(self, inputs: Tensor) -> Tensor:
        """[N, W] to [N, F + 1] shares of the log odds above a usual event's, in float64.

        The last is the share of the card's history. What the rule leaves over (about a
        thousandth) goes to the inputs in proportion to their shares.
        """
        points, weights = leggauss(NUM_POINTS)  # type: ignore[no-untyped-call]
        gradient = torch.zeros_like(inputs)
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            at = (inputs * float(point)).detach().requires_grad_(True)
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(self(at).sum(), at)
            gradient += float(weight) * slope
        with torch.no_grad():
            value = (self(inputs) - self(torch.zeros_like(inputs[:1]))).double()
            shares = torch.zeros(len(inputs), self.num_columns + 1, dtype=torch.float64)
            shares = shares.index_add(-1, self.owner, (inputs * gradient).double())
            size = shares.abs().sum(dim=-1)
            left_over = value - shares.sum(dim=-1)
            spread = left_over / torch.where(size > 0, size, torch.ones_like(size))
            whole: Tensor = shares + shares.abs() * spread[:, None]
            return whole
