"""How rare an error of its size is in its own column, and what that says of an event.

A sum of errors lets one telling column be outvoted by the noise of many, and a column whose errors
are always large counts for more than one whose errors hardly ever are. In rarities every column
speaks in the same unit: the negative logarithm of the share of validation events whose error in
this column is at least as large, in nats. An event is as odd as its rarest columns say:

    value = log(weighted mean over columns of exp(rarity))

is close to the largest rarity (less the logarithm of the number of columns, the price of looking
at many) where one stands out, and is 0 for an event that is usual in every column. It is the
logarithm of the mean of reciprocal p-values, whose reciprocal is the weighted harmonic mean
p-value (Wilson, "The harmonic mean p-value for combining dependent tests", PNAS 2019): columns
need not be independent, and windows of one merchant are not. A column of little weight orders what
is usual in the others, and has to be that much rarer to outvote them.

Each column's share of the value is its softmax weight, less that of a column without any error,
which says nothing: shares sum to the value, and what is missing has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_defs.errors import FraudScoringError
from fraud_models.scoring.calibration import PROBABILITIES, Calibration, Floats

# Beyond one in 10^21 a tail is no more than extrapolation, and says only: very rare.
LEAST_SHARE = 1e-21


@dataclass(frozen=True)
class Rarities:
    """One calibration per column that is ranked by, of the errors of validation events."""

    by_column: Mapping[str, Calibration]
    # Of the columns in the mean; those that are not named have 1.
    weights: Mapping[str, float]

    @classmethod
    def fit(
        cls,
        quantiles: Mapping[str, Sequence[float]],
        num_rows: int,
        weights: Mapping[str, float],
    ) -> Rarities:
        """Fit on the quantiles (at `PROBABILITIES`) of each column's errors over `num_rows` events.

        Raises:
            FraudScoringError: the errors of a column are all the same; all such columns are named.
        """
        flat = [name for name, values in quantiles.items() if min(values) == max(values)]
        if flat:
            raise FraudScoringError(
                f"The errors of {', '.join(flat)} are the same for all {num_rows} validation "
                "events, so none of them is rare.",
                expected="columns whose errors differ.",
                remedy="leave them out of `ranked_columns`, or look why they have no values.",
            )
        return cls(
            {
                name: Calibration.fit(PROBABILITIES, values, num_rows)
                for name, values in quantiles.items()
            },
            dict(weights),
        )

    @property
    def shares_of_mean(self) -> Floats:
        """[R] weights in the order of `by_column`, which sum to 1."""
        weights = np.array([self.weights.get(name, 1.0) for name in self.by_column])
        shares: Floats = weights / weights.sum()
        return shares

    def contributions(self, errors: Floats, columns: Sequence[str]) -> Floats:
        """[N, F] errors of these columns to [N, F] shares of the value, which sum to it.

        A column that is not ranked by has no share.
        """
        chosen = [columns.index(name) for name in self.by_column]
        rarities = np.stack(
            [
                -np.log(np.maximum(calibration.tail_share(errors[:, place]), LEAST_SHARE))
                for place, calibration in zip(chosen, self.by_column.values(), strict=True)
            ],
            axis=1,
        )
        highest = rarities.max(axis=1, keepdims=True)
        mean_of = self.shares_of_mean
        value = highest[:, 0] + np.log(np.exp(rarities - highest) @ mean_of)
        # Softmax weights, less what a column without any error has: that says nothing.
        weights = mean_of * (np.exp(rarities - highest) - np.exp(-highest))
        total = weights.sum(axis=1, keepdims=True)
        shares = np.zeros_like(errors)
        shares[:, chosen] = weights / np.where(total > 0, total, 1.0) * value[:, None]
        return shares

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold."""
        by_column = {name: fitted.to_dict() for name, fitted in self.by_column.items()}
        return {"by_column": by_column, "weights": dict(self.weights)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Rarities:
        """The rarities that `to_dict` wrote."""
        by_column = values["by_column"].items()
        return cls(
            {name: Calibration.from_dict(item) for name, item in by_column}, values["weights"]
        )
