"""The supervised head: from code, errors and values of an event to the log odds of fraud.

Shapes: `N` events, `F` columns, `C` channels, `P` pieces, `Z` code, `H` hidden units, `K`
categorical columns with vectors of width `V`, `W = C * P + F + Z + K * V` inputs.

A value is encoded as pieces between knots: each piece says how much of it the value fills. The
network can then learn a step where trees would split (the piecewise linear encoding of Gorishniy,
Rubachev and Babenko, "On Embeddings for Numerical Features in Tabular Deep Learning", NeurIPS
2022). A category is read as a vector, which the head learns from labels. All inputs are 0 for the
reference event: values at their centre, no errors, categories that say nothing about fraud. A
missing category is the vector 0 as well, so it has no share.

Integrated gradients explain the ranking of an event, along the straight line of inputs from the
reference to the event (Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML
2017). Each input's share is its distance times the mean gradient along the line. The shares sum to
the difference of the log odds, which is the ranking value. A column's share is the sum over its
channels and its error. The code belongs to no column: its share is that of the card's history.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from numpy.polynomial.legendre import leggauss
from torch import Tensor, nn
from torch.nn import functional

from fraud_models.config import HeadConfig, ModelConfig
from fraud_models.networks.autoencoder import category_embeddings, embed
from fraud_models.sequences.encoding import Encoding

# Limit of the absolute value: values in encoded units, and codes, are clipped to it.
INPUT_LIMIT = 8.0
# Points of the Gauss-Legendre quadrature along the line; exact for polynomials of degree 31.
NUM_QUADRATURE_POINTS = 16


@dataclass(frozen=True)
class HeadCategories:
    """The K categorical columns that a head reads."""

    columns: tuple[int, ...] = ()
    """[K] their indices among the F columns."""
    class_counts: tuple[int, ...] = ()
    """[K] their numbers of classes."""
    width: int = 0
    """V: width of the vector of a class."""


NO_CATEGORIES = HeadCategories()


class FraudHead(nn.Module):
    """Two hidden layers from the inputs [W] of an event to its log odds."""

    def __init__(
        self,
        config: HeadConfig,
        channel_owner: tuple[int, ...],
        num_columns: int,
        code_width: int,
        categories: HeadCategories = NO_CATEGORIES,
    ) -> None:
        super().__init__()
        self.widths = (len(channel_owner), num_columns, code_width, len(categories.columns))
        num_pieces = max(1, len(config.knots) - 1)
        piece_owner = [owner for owner in channel_owner for _ in range(num_pieces)]
        owner = [*piece_owner, *range(num_columns), *([num_columns] * code_width)]
        owner += [column for column in categories.columns for _ in range(categories.width)]
        input_owner = functional.one_hot(torch.tensor(owner), num_columns + 1).double()
        self.register_buffer("input_owner", input_owner, persistent=False)
        self.input_owner: Tensor
        self.register_buffer("knots", torch.tensor(config.knots), persistent=False)
        self.knots: Tensor
        self.layers = nn.Sequential(
            nn.Linear(len(owner), config.hidden_width),
            nn.SiLU(),
            nn.Linear(config.hidden_width, config.hidden_width),
            nn.SiLU(),
            nn.Linear(config.hidden_width, 1),
        )
        self.embeddings = category_embeddings(
            categories.class_counts, categories.width, missing_is_zero=True
        )

    @classmethod
    def from_config(cls, config: ModelConfig, encoding: Encoding) -> FraudHead:
        """Return a head with fresh weights that fits a model's config and encoding."""
        owner, columns = encoding.channel_owner, len(encoding.columns)
        categories = HeadCategories(
            encoding.categorical, encoding.class_counts, config.network.category_width
        )
        return cls(config.head, owner, columns, config.network.code_width, categories)

    def inputs(self, channels: Tensor, errors: Tensor, codes: Tensor, categories: Tensor) -> Tensor:
        """Return inputs [..., W] of events.

        Takes channels [..., C], errors [..., F], codes of the autoencoder [..., Z] and codes of
        categorical columns [..., K], the number of classes where missing.
        """
        values, code = (item.clamp(-INPUT_LIMIT, INPUT_LIMIT) for item in (channels, codes))
        if len(self.knots):
            values = self._piecewise(values)
        parts = [values, torch.log1p(errors), code]
        if len(self.embeddings):
            parts.append(embed(self.embeddings, categories))
        return torch.cat(parts, dim=-1)

    def _piecewise(self, values: Tensor) -> Tensor:
        """Return how much values [..., C] fill each piece, [..., C * P]; 0 for the value 0."""
        low, width = self.knots[:-1], self.knots[1:] - self.knots[:-1]
        filled = ((values[..., None] - low) / width).clamp(0.0, 1.0)
        return (filled - (-low / width).clamp(0.0, 1.0)).flatten(-2)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return log odds [...] of inputs [..., W]."""
        odds: Tensor = self.layers(inputs)
        return odds[..., 0]

    def contributions(self, inputs: Tensor) -> Tensor:
        """Return each column's share of the ranking value, [N, F + 1], in float64.

        `inputs` is [N, W]. The ranking value is the log odds minus those of the reference event.
        The last share is that of the card's history. The quadrature error (about a thousandth) is
        distributed in proportion to the shares.
        """
        points, weights = leggauss(NUM_QUADRATURE_POINTS)  # type: ignore[no-untyped-call]
        first, rest = self.layers[0], self.layers[1:]
        assert isinstance(first, nn.Linear)
        # The first layer is linear, so the path is also a straight line in its hidden units.
        path = (inputs @ first.weight.T).detach()
        slopes = torch.zeros_like(path)
        for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
            at = (path * float(point) + first.bias).detach().requires_grad_(True)
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(rest(at).sum(), at)
            slopes += float(weight) * slope
        with torch.no_grad():
            gradient = slopes @ first.weight
            value = (self(inputs) - self(torch.zeros_like(inputs[:1]))).double()
            shares = (inputs * gradient).double() @ self.input_owner
            size = shares.abs().sum(dim=-1)
            residual = value - shares.sum(dim=-1)
            correction = residual / torch.where(size > 0, size, torch.ones_like(size))
            corrected: Tensor = shares + shares.abs() * correction[:, None]
            return corrected
