"""Calibrate ranking values to scores, and derive the alert threshold.

The score is a tail rank: 1 minus the share of validation events with at least this ranking value.
Inside the table of quantiles it is interpolated. Above the table it follows a generalised Pareto
tail, so the most anomalous event of a year still scores above the top of the validation week. The
tail's shape is at least 0.5, heavier than most tails: with a lighter tail, scores would reach 1.0
in float64 and the worst frauds would tie. The price: the top of the scale is pessimistic (a 1 in
10^7 event may be scored as 1 in 10^6). Scores order transactions and make nights comparable; they
are not probabilities of fraud.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_defs.errors import FraudScoringError, UsageError

Floats = npt.NDArray[np.float64]

# Probabilities of the quantile table: evenly spaced, and dense in the tail.
PROBABILITIES: tuple[float, ...] = (
    *(step / 50 for step in range(50)),
    *(0.98 + step / 1000 for step in range(1, 15)),
    *(0.995 + step / 10_000 for step in range(40)),
    *(0.999 + step / 10_000 for step in range(1, 10)),
)
PROBABILITIES = tuple(sorted({round(value, 6) for value in PROBABILITIES}))
TAIL_FROM = 0.98
LEAST_SHAPE, GREATEST_SHAPE = 0.5, 1.0
MAX_CARDS_PER_NIGHT = 2_000


@dataclass(frozen=True)
class AlertThreshold:
    """A score that at least `rank` cards reached on every validation night."""

    rank: int
    score: float


@dataclass(frozen=True)
class Calibration:
    """A calibration, fitted on the ranking values of the validation events."""

    probabilities: tuple[float, ...]
    """Increasing, below 1."""
    quantiles: tuple[float, ...]
    """Ranking value at each probability, strictly increasing."""
    tail_shape: float
    """Shape of the generalised Pareto tail above the last quantile."""
    tail_scale: float
    """Scale of that tail, in units of the ranking value."""
    num_rows: int
    """Number of validation events."""
    alert_thresholds: tuple[AlertThreshold, ...] = ()
    """Ordered by rising rank and falling score."""

    @classmethod
    def fit(
        cls, probabilities: Sequence[float], quantiles: Sequence[float], num_rows: int
    ) -> Calibration:
        """Fit on the quantiles (at `PROBABILITIES`) of `num_rows` ranking values.

        Raises:
            FraudScoringError: the table is not finite and rising, or has fewer than two distinct
                values; check that validation days have events and that training converged.
        """
        probs = np.asarray(probabilities, dtype=np.float64)
        values = np.asarray(quantiles, dtype=np.float64)
        _check_table(probs, values)
        # Quantiles closer to 1 than one event in num_rows all equal the maximum.
        resolved = probs <= 1 - 1 / (num_rows + 1)
        probs, values = probs[resolved], values[resolved]
        # Among tied values the lowest probability counts, so all of them get the same rank.
        first = np.append(True, values[1:] > values[:-1])
        probs, values = probs[first], values[first]
        if len(values) < 2:
            raise _invalid_table(f"{len(values)} distinct values from {num_rows} rows")
        shape, scale = _fit_tail(probs, values)
        return cls(tuple(probs.tolist()), tuple(values.tolist()), shape, scale, num_rows)

    def score(self, ranking_values: npt.ArrayLike) -> Floats:
        """Return the score, the tail rank in [0, 1), of each ranking value; NaN stays NaN.

        >>> Calibration.fit([0.0, 0.5, 0.9], [0.0, 1.0, 2.0], 100).score([1.0]).tolist()
        [0.5]
        """
        values, inside, beyond = self._ranks_and_tail(ranking_values)
        # Far out the tail share rounds to 0; the score must stay below 1.
        above = np.minimum(1 - beyond, np.nextafter(1.0, 0.0))
        scores: Floats = np.where(values > self.quantiles[-1], above, inside)
        return scores

    def tail_share(self, ranking_values: npt.ArrayLike) -> Floats:
        """Return the share in [0, 1] of validation events with at least this ranking value.

        Equals 1 minus `score`, but is not rounded: the rarest values keep their order. NaN stays
        NaN.

        >>> Calibration.fit([0.0, 0.5, 0.9], [0.0, 1.0, 2.0], 100).tail_share([1.0]).tolist()
        [0.5]
        """
        values, inside, beyond = self._ranks_and_tail(ranking_values)
        shares: Floats = np.where(values > self.quantiles[-1], beyond, 1 - inside)
        return shares

    def _ranks_and_tail(self, ranking_values: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Return the values, their ranks inside the table, and their tail shares above it."""
        values = np.asarray(ranking_values, dtype=np.float64)
        top, top_rank = self.quantiles[-1], self.probabilities[-1]
        inside = np.interp(values, self.quantiles, self.probabilities, left=0.0)
        excess = np.maximum(values - top, 0.0) / self.tail_scale
        beyond = (1 - top_rank) * (1 + self.tail_shape * excess) ** (-1 / self.tail_shape)
        return values, inside, beyond

    def with_alert_thresholds(self, nights: Sequence[Sequence[float]]) -> Calibration:
        """Return this calibration with alert thresholds from the validation nights.

        `nights` holds, per night, the highest score of each of its top cards (at most 2,000).

        Raises:
            FraudScoringError: there is no night, or a night has no cards; train as of a later
                date, or with more validation days.
        """
        ordered = [sorted(night, reverse=True)[:MAX_CARDS_PER_NIGHT] for night in nights]
        if not ordered or not all(ordered):
            raise FraudScoringError(
                f"Of {len(ordered)} validation nights, "
                f"{sum(not night for night in ordered)} have no scored card.",
                expected="at least one validation night, each with scores.",
                remedy="train as of a later date, or with more validation days.",
            )
        num_ranks = min(len(night) for night in ordered)
        lowest = [min(night[rank] for night in ordered) for rank in range(num_ranks)]
        table = tuple(AlertThreshold(rank + 1, float(s)) for rank, s in enumerate(lowest))
        return replace(self, alert_thresholds=table)

    def threshold_for(self, budget: int) -> float:
        """Return the alert threshold, the lowest score of an alert, for a budget of cards a night.

        If the budget exceeds the number of cards of any validation night, this is the lowest
        threshold in the table.

        Raises:
            UsageError: the budget is below 1, so give another; or there are no thresholds, so
                train the model again.
        """
        if budget < 1 or not self.alert_thresholds:
            raise UsageError(
                f"The alert budget is {budget}; "
                f"the model has {len(self.alert_thresholds)} thresholds.",
                expected="a budget of 1 or more, and a model calibrated on validation nights.",
                remedy="give another budget, or train the model again.",
            )
        return self.alert_thresholds[min(budget, len(self.alert_thresholds)) - 1].score

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as plain values for JSON."""
        thresholds = [item.score for item in self.alert_thresholds]
        return {**asdict(self), "alert_thresholds": thresholds}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Return the calibration that `to_dict` wrote."""
        return cls(
            probabilities=tuple(values["probabilities"]),
            quantiles=tuple(values["quantiles"]),
            tail_shape=float(values["tail_shape"]),
            tail_scale=float(values["tail_scale"]),
            num_rows=int(values["num_rows"]),
            alert_thresholds=tuple(
                AlertThreshold(rank, float(score))
                for rank, score in enumerate(values["alert_thresholds"], start=1)
            ),
        )


def _check_table(probabilities: Floats, quantiles: Floats) -> None:
    if len(probabilities) != len(quantiles):
        raise _invalid_table(f"{len(probabilities)} probabilities and {len(quantiles)} quantiles")
    if not (np.isfinite(probabilities).all() and np.isfinite(quantiles).all()):
        raise _invalid_table("values that are not finite")
    if np.any(np.diff(probabilities) <= 0) or np.any(np.diff(quantiles) < 0):
        raise _invalid_table("values out of order")
    if len(probabilities) == 0:
        raise _invalid_table("no entries")
    if not (probabilities[0] >= 0 and probabilities[-1] < 1):
        raise _invalid_table("probabilities outside 0 to below 1")


def _invalid_table(fault: str) -> FraudScoringError:
    return FraudScoringError(
        f"The calibration table has {fault}.",
        expected="quantiles of the validation events' ranking values, rising with probability.",
        remedy="check that validation days have events and that training did not diverge.",
    )


def _fit_tail(probabilities: Floats, quantiles: Floats) -> tuple[float, float]:
    """Return shape and scale of the Pareto tail above the last quantile.

    Fits the quantile function by least squares on the upper part of the table. For each shape of a
    grid the best scale has a closed form. Above any point beyond `u`, a Pareto tail is again a
    Pareto tail; its scale is larger by shape times the distance from `u`.
    """
    first = min(int(np.searchsorted(probabilities, TAIL_FROM)), len(probabilities) - 2)
    base, start = quantiles[first], probabilities[first]
    excess = quantiles[first + 1 :] - base
    share = (1 - probabilities[first + 1 :]) / (1 - start)
    best = (np.inf, LEAST_SHAPE, 1.0)
    for shape in np.linspace(LEAST_SHAPE, GREATEST_SHAPE, 26):
        unit = (share**-shape - 1) / shape
        scale = float(unit @ excess / (unit @ unit))
        misfit = float(np.sum((scale * unit - excess) ** 2))
        if misfit < best[0]:
            best = (misfit, float(shape), scale)
    _, shape, scale = best
    return shape, scale + shape * float(quantiles[-1] - base)
