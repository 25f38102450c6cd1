"""Ranking value to score, and the score from which people are alerted.

The score is a tail rank: 1 - the share of validation events that rank as high. Inside the table
of quantiles it is interpolated; above it a generalised Pareto tail takes over, so that the oddest
event of a year still scores above the oddest of the validation week. The tail's shape is clamped
from below at 0.5, heavier than most tails: a lighter one would reach 1.0 in float64 and make the
worst frauds equal. Price: the top of the scale is pessimistic (a 1 in 10^7 event may read as 1 in
10^6). The score orders and compares nights; it is not a probability of fraud.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from feature_defs.errors import FraudScoringError, UsageError

Floats = npt.NDArray[np.float64]

# Where to ask for quantiles of the validation events: even below, dense in the tail.
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
    """On every validation night at least `rank` cards reached `score`."""

    rank: int
    score: float


@dataclass(frozen=True)
class Calibration:
    """Fitted on the ranking values of the validation events."""

    probabilities: tuple[float, ...]
    """Increasing, below 1."""
    quantiles: tuple[float, ...]
    """Ranking value at each probability, strictly increasing."""
    tail_shape: float
    """Of the generalised Pareto tail above the last quantile."""
    tail_scale: float
    """Of the same, in units of the ranking value."""
    num_rows: int
    """Validation events."""
    alert_thresholds: tuple[AlertThreshold, ...] = ()
    """By rising rank and falling score."""

    @classmethod
    def fit(
        cls, probabilities: Sequence[float], quantiles: Sequence[float], num_rows: int
    ) -> Calibration:
        """Fit on a table of quantiles (see `PROBABILITIES`) of `num_rows` ranking values.

        Raises:
            FraudScoringError: the table is not finite and rising, or has fewer than two distinct values.
        """
        asked = np.asarray(probabilities, dtype=np.float64)
        values = np.asarray(quantiles, dtype=np.float64)
        _check_table(asked, values)
        # Quantiles closer to 1 than one event in num_rows all say the same: the maximum.
        known = asked <= 1 - 1 / (num_rows + 1)
        asked, values = asked[known], values[known]
        # Where values repeat, the lowest probability counts: all the others rank as high.
        first = np.append(True, values[1:] > values[:-1])
        asked, values = asked[first], values[first]
        if len(values) < 2:
            raise _bad_table(f"{len(values)} distinct values from {num_rows} rows")
        shape, scale = _fit_tail(asked, values)
        return cls(tuple(asked.tolist()), tuple(values.tolist()), shape, scale, num_rows)

    def score(self, ranking_values: npt.ArrayLike) -> Floats:
        """Tail rank in [0, 1) of each ranking value; NaN stays NaN.

        >>> Calibration.fit([0.0, 0.5, 0.9], [0.0, 1.0, 2.0], 100).score([1.0]).tolist()
        [0.5]
        """
        values, inside, beyond = self._ranks(ranking_values)
        # Beyond every plausible value the tail rounds to 0; the score still stays below 1.
        above = np.minimum(1 - beyond, np.nextafter(1.0, 0.0))
        scores: Floats = np.where(values > self.quantiles[-1], above, inside)
        return scores

    def tail_share(self, ranking_values: npt.ArrayLike) -> Floats:
        """Share in [0, 1] of validation events that rank as high; NaN stays NaN.

        What `score` leaves to 1, but without its rounding: the rarest keep their order.

        >>> Calibration.fit([0.0, 0.5, 0.9], [0.0, 1.0, 2.0], 100).tail_share([1.0]).tolist()
        [0.5]
        """
        values, inside, beyond = self._ranks(ranking_values)
        shares: Floats = np.where(values > self.quantiles[-1], beyond, 1 - inside)
        return shares

    def _ranks(self, ranking_values: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
        """The values, their rank inside the table, and the share above them beyond it."""
        values = np.asarray(ranking_values, dtype=np.float64)
        top, reached = self.quantiles[-1], self.probabilities[-1]
        inside = np.interp(values, self.quantiles, self.probabilities, left=0.0)
        excess = np.maximum(values - top, 0.0) / self.tail_scale
        beyond = (1 - reached) * (1 + self.tail_shape * excess) ** (-1 / self.tail_shape)
        return values, inside, beyond

    def with_alert_thresholds(self, nights: Sequence[Sequence[float]]) -> Calibration:
        """With a table of thresholds from the top card scores of each validation night.

        `nights` holds, per night, the highest score of each of its top (at most 2,000) cards.

        Raises:
            FraudScoringError: there is no night, or a night without cards.
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
        reached = [min(night[rank] for night in ordered) for rank in range(num_ranks)]
        table = tuple(AlertThreshold(rank + 1, float(s)) for rank, s in enumerate(reached))
        return replace(self, alert_thresholds=table)

    def threshold_for(self, budget: int) -> float:
        """The score from which a card is an alert, for a budget of cards per night.

        With a budget above the number of cards that every validation night had, the lowest
        score known: all that is as odd as anything ranked then.

        Raises:
            UsageError: the budget is below 1 or there is no table.
        """
        if budget < 1 or not self.alert_thresholds:
            raise UsageError(
                f"An alert budget of {budget} with {len(self.alert_thresholds)} known thresholds.",
                expected="a budget of 1 or more, and a model calibrated on validation nights.",
                remedy="give another budget, or train the model again.",
            )
        return self.alert_thresholds[min(budget, len(self.alert_thresholds)) - 1].score

    def to_dict(self) -> dict[str, Any]:
        """As plain values that JSON can hold."""
        thresholds = [item.score for item in self.alert_thresholds]
        return {**asdict(self), "alert_thresholds": thresholds}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """The calibration that `to_dict` wrote."""
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
        raise _bad_table(f"{len(probabilities)} probabilities and {len(quantiles)} quantiles")
    if not (np.isfinite(probabilities).all() and np.isfinite(quantiles).all()):
        raise _bad_table("values that are not finite")
    if np.any(np.diff(probabilities) <= 0) or np.any(np.diff(quantiles) < 0):
        raise _bad_table("values out of order")
    if len(probabilities) == 0:
        raise _bad_table("no entry")
    if not (probabilities[0] >= 0 and probabilities[-1] < 1):
        raise _bad_table("probabilities outside 0 to below 1")


def _bad_table(what: str) -> FraudScoringError:
    return FraudScoringError(
        f"The calibration table has {what}.",
        expected="quantiles of the validation events' ranking values, rising with probability.",
        remedy="check that validation days have events and that training did not diverge.",
    )


def _fit_tail(probabilities: Floats, quantiles: Floats) -> tuple[float, float]:
    """Shape and scale of the Pareto tail above the last quantile.

    Least squares of the quantile function over the table's upper part: for each shape of a grid
    the best scale has a closed form. A Pareto tail above `u` is one above any higher point too,
    with the scale grown by shape times the distance.
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
