"""Ranking by rarity: how rare each error is in its own column, combined over columns.

In a sum of errors, noise in many columns can outweigh one informative column, and columns with
large typical errors dominate. Rarity puts all columns in the same unit: the negative logarithm of
the share of validation events with at least this error in the column, in nats. The ranking value
follows the rarest columns:

    value = log(weighted mean over columns of exp(rarity))

It is close to the largest rarity where one dominates (minus the logarithm of the number of columns,
a correction for multiple testing), and 0 for an event without error in any column. It is the
logarithm of the mean reciprocal p-value, and so minus the logarithm of the weighted harmonic mean
p-value (Wilson, "The harmonic mean p-value for combining dependent tests", PNAS 2019). Columns need
not be independent; windows of one merchant are not. A column of low weight orders events that are
ordinary in the other columns. It dominates only when its error is much rarer than theirs.

Each column's share of the value is its softmax weight, minus the weight of a column without error.
Shares sum to the value, and a missing value has share 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_defs.errors import FraudScoringError
from fraud_models.scoring.calibration import PROBABILITIES, Calibration, Floats

# Smaller tail shares are pure extrapolation and are treated as equal.
MIN_TAIL_SHARE = 1e-21


@dataclass(frozen=True)
class Rarities:
    """One calibration per ranked column, fitted on the errors of validation events."""

    by_column: Mapping[str, Calibration]
    """Calibration of the errors of each ranked column."""
    weights: Mapping[str, float]
    """Weight of a column in the mean; 1 where it is not listed."""

    @classmethod
    def fit(
        cls,
        quantiles: Mapping[str, Sequence[float]],
        num_rows: int,
        weights: Mapping[str, float],
    ) -> Rarities:
        """Fit on the quantiles (at `PROBABILITIES`) of each column's errors over `num_rows` events.

        Raises:
            FraudScoringError: all errors of a column are equal, so remove the columns that the
                message lists from `ranked_columns`.
        """
        constant = [name for name, values in quantiles.items() if min(values) == max(values)]
        if constant:
            raise FraudScoringError(
                f"The errors of {', '.join(constant)} are equal for all {num_rows} validation "
                "events, so their rarity is undefined.",
                expected="columns whose errors differ.",
                remedy="remove them from `ranked_columns`, or find out why they have no values.",
            )
        return cls(
            {
                name: Calibration.fit(PROBABILITIES, values, num_rows)
                for name, values in quantiles.items()
            },
            dict(weights),
        )

    @property
    def normalised_weights(self) -> Floats:
        """Weights [R] in the order of `by_column`; they sum to 1."""
        weights = np.array([self.weights.get(name, 1.0) for name in self.by_column])
        normalised: Floats = weights / weights.sum()
        return normalised

    def contributions(self, errors: Floats, columns: Sequence[str]) -> Floats:
        """Return each column's share [N, F] of the ranking value, from errors [N, F] of `columns`.

        Shares sum to the ranking value. A column that is not ranked has share 0.
        """
        ranked = [columns.index(name) for name in self.by_column]
        rarities = np.stack(
            [
                -np.log(np.maximum(calibration.tail_share(errors[:, index]), MIN_TAIL_SHARE))
                for index, calibration in zip(ranked, self.by_column.values(), strict=True)
            ],
            axis=1,
        )
        highest = rarities.max(axis=1, keepdims=True)
        mean_weights = self.normalised_weights
        value = highest[:, 0] + np.log(np.exp(rarities - highest) @ mean_weights)
        # Softmax weights, minus the weight of a column without error.
        weights = mean_weights * (np.exp(rarities - highest) - np.exp(-highest))
        total = weights.sum(axis=1, keepdims=True)
        shares = np.zeros_like(errors)
        shares[:, ranked] = weights / np.where(total > 0, total, 1.0) * value[:, None]
        return shares

    def to_dict(self) -> dict[str, Any]:
        """Return the rarities as plain values for JSON."""
        by_column = {name: fitted.to_dict() for name, fitted in self.by_column.items()}
        return {"by_column": by_column, "weights": dict(self.weights)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Rarities:
        """Return the rarities that `to_dict` wrote."""
        by_column = values["by_column"].items()
        return cls(
            {name: Calibration.from_dict(item) for name, item in by_column}, values["weights"]
        )
