"""Rarities of column errors and their contributions to the ranking value."""

from __future__ import annotations

import json

import numpy as np
import pytest

from feature_defs.errors import FraudScoringError
from fraud_models.scoring.calibration import PROBABILITIES
from fraud_models.scoring.rarity import Rarities

COLUMNS = ("quiet", "loud", "left_out")
NUM_ROWS = 100_000


def exponential(mean: float) -> list[float]:
    """Return quantiles of exponential errors."""
    return [-mean * float(np.log1p(-p)) for p in PROBABILITIES]


def fitted(**weights: float) -> Rarities:
    """Return fitted rarities; errors of `loud` are a hundred times those of `quiet`."""
    return Rarities.fit({"quiet": exponential(0.1), "loud": exponential(10.0)}, NUM_ROWS, weights)


def test_equally_rare_errors_contribute_equally() -> None:
    # Errors of 0.46 in `quiet` and 46 in `loud` are equally rare: one in a hundred.
    errors = np.array([[0.4605, 0.0, 0.0], [0.0, 46.05, 0.0], [0.0, 0.0, 0.0]])
    shares = fitted().contributions(errors, COLUMNS)
    one_in_a_hundred = np.log((100 + 1) / 2)
    np.testing.assert_allclose(shares.sum(axis=1)[:2], one_in_a_hundred, rtol=0.01)
    np.testing.assert_allclose(shares[2], 0.0, atol=1e-9)
    assert shares[0].argmax() == 0 and shares[1].argmax() == 1


@pytest.mark.parametrize("weight", [1.0, 0.1])
def test_contributions_sum_to_log_mean_reciprocal_tail_share(weight: float) -> None:
    rng = np.random.default_rng(4)
    errors = np.column_stack(
        [rng.exponential(0.1, 500), rng.exponential(10.0, 500), rng.exponential(1.0, 500)]
    )
    rarities = fitted(loud=weight)
    shares = rarities.contributions(errors, COLUMNS)
    tails = [
        calibration.tail_share(errors[:, COLUMNS.index(name)])
        for name, calibration in rarities.by_column.items()
    ]
    reciprocal = [1 / tail for tail in tails]
    expected = np.log(np.average(reciprocal, axis=0, weights=[1.0, weight]))
    np.testing.assert_allclose(shares.sum(axis=1), expected, rtol=1e-12, atol=1e-12)
    assert (shares >= 0).all() and (shares[:, 2] == 0).all()


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_missing_values_contribute_zero(share: float) -> None:
    often_missing = [0.0 if p < share else -float(np.log1p(-p)) for p in PROBABILITIES]
    rarities = Rarities.fit({"often_missing": often_missing, "loud": exponential(10.0)}, 10**5, {})
    shares = rarities.contributions(np.array([[0.0, 0.0], [0.0, 46.05]]), tuple(rarities.by_column))
    assert (shares[:, 0] == 0).all()
    assert shares.sum(axis=1) == pytest.approx([0.0, np.log((100 + 1) / 2)], rel=0.01)


def test_low_weight_reduces_the_ranking_value() -> None:
    errors = np.array([[0.0, 46.05, 0.0], [0.0, 69.08, 0.0]])
    one_in_a_hundred, one_in_a_thousand = fitted(loud=0.1).contributions(errors, COLUMNS)
    assert one_in_a_hundred.sum() == pytest.approx(np.log(1 / 1.1 + 10 / 1.1), rel=0.01)
    assert one_in_a_thousand.sum() == pytest.approx(np.log(1 / 1.1 + 100 / 1.1), rel=0.01)


def test_ranking_values_rise_far_above_the_table() -> None:
    errors = np.zeros((4, 3))
    errors[:, 1] = [100.0, 1e4, 1e6, 1e8]
    values = fitted().contributions(errors, COLUMNS).sum(axis=1)
    assert (np.diff(values) > 0).all()
    errors[:, 1] = [1e30, 1e100, 1e300, np.finfo(np.float64).max]
    assert np.isfinite(fitted().contributions(errors, COLUMNS)).all()


def test_fit_with_constant_errors_is_rejected() -> None:
    with pytest.raises(FraudScoringError, match="errors of quiet are equal for all 100000"):
        Rarities.fit({"quiet": [0.0] * len(PROBABILITIES), "loud": exponential(10.0)}, NUM_ROWS, {})


def test_round_trip() -> None:
    rarities = fitted(quiet=0.5)
    again = Rarities.from_dict(json.loads(json.dumps(rarities.to_dict())))
    assert again == rarities
