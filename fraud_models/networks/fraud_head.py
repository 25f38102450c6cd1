"""The supervised head: code, errors and values of an event to the log odds that it is a fraud.

Shapes: `N` events, `F` columns, `C` channels, `P` pieces, `Z` code, `H` hidden units,
`W = C * P + F + Z` inputs.

A value is read in pieces between knots, each telling how much of it the value fills, so that a
network sees a step where trees would cut (the piecewise linear encoding of Gorishniy, Rubachev and
Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS 2022). Its inputs
are 0 for a usual event: values at their centre, no errors. Why an event ranks high is told by
integrated gradients along the straight line of inputs from there to the event (Sundararajan, Taly
and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017): each input's share is its distance
times the mean of the gradient along the line, and the shares sum to the difference of the log
odds, which is the ranking value. A column's share is that of its channels and of its error; what
the code says belongs to no column and is the share of the card's history.
"""

from __future__ import annotations

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn
from torch.nn import functional

from fraud_models.config import HeadConfig, ModelConfig
from fraud_models.sequences.encoding import Encoding

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
        self.widths = (len(channel_owner), num_columns, code_width)
        num_pieces = max(1, len(config.knots) - 1)
        of_pieces = [owner for owner in channel_owner for _ in range(num_pieces)]
        owner = [*of_pieces, *range(num_columns), *([num_columns] * code_width)]
        belongs = functional.one_hot(torch.tensor(owner), num_columns + 1).double()
        self.register_buffer("belongs", belongs, persistent=False)
        self.belongs: Tensor
        self.register_buffer("knots", torch.tensor(config.knots), persistent=False)
        self.knots: Tensor
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

    def inputs(self, channels: Tensor, errors: Tensor, codes: Tensor) -> Tensor:
        """[..., W] of [..., C] channels, [..., F] errors and [..., Z] codes."""
        values, code = (part.clamp(-INPUT_LIMIT, INPUT_LIMIT) for part in (channels, codes))
        if len(self.knots):
            values = self._pieces(values)
        return torch.cat([values, torch.log1p(errors), code], dim=-1)

    def _pieces(self, values: Tensor) -> Tensor:
        """[..., C] to [..., C * P]: how much of each piece lies below a value, less those of 0."""
        low, width = self.knots[:-1], self.knots[1:] - self.knots[:-1]
        filled = ((values[..., None] - low) / width).clamp(0.0, 1.0)
        return (filled - (-low / width).clamp(0.0, 1.0)).flatten(-2)

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
        first, rest = self.layers[0], self.layers[1:]
        assert isinstance(first, nn.Linear)
        # Up to the first hidden units everything is linear, so the line is walked in those.
        reached = (inputs @ first.weight.T).detach()
        slopes = torch.zeros_like(reached)
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            at = (reached * float(point) + first.bias).detach().requires_grad_(True)
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(rest(at).sum(), at)
            slopes += float(weight) * slope
        with torch.no_grad():
            gradient = slopes @ first.weight
            value = (self(inputs) - self(torch.zeros_like(inputs[:1]))).double()
            shares = (inputs * gradient).double() @ self.belongs
            size = shares.abs().sum(dim=-1)
            left_over = value - shares.sum(dim=-1)
            spread = left_over / torch.where(size > 0, size, torch.ones_like(size))
            whole: Tensor = shares + shares.abs() * spread[:, None]
            return whole
