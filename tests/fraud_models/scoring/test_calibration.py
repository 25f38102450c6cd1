"""Calibration: scores are monotone, bounded and never saturated; alert thresholds fit budgets."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_defs.errors import FraudScoringError, UsageError
from fraud_models.scoring.calibration import PROBABILITIES, Calibration
from tests.fraud_models.conftest import small_calibration


def test_scores_match_tail_ranks_of_fresh_samples() -> None:
    values = np.random.default_rng(5).exponential(2.0, 200_000)
    fitted = Calibration.fit(PROBABILITIES, np.quantile(values, PROBABILITIES).tolist(), 200_000)
    fresh = np.random.default_rng(6).exponential(2.0, 200_000)
    for score in (0.1, 0.5, 0.9, 0.99, 0.999):
        assert np.mean(fitted.score(fresh) >= score) == pytest.approx(1 - score, rel=0.15)


@given(st.lists(st.floats(-10, 1e5), min_size=2, max_size=50))
def test_scores_are_monotone_and_below_one(values: list[float]) -> None:
    scores = small_calibration().score(sorted(values))
    assert (np.diff(scores) >= 0).all()
    assert (scores >= 0).all() and (scores < 1).all()


def test_scores_rise_strictly_above_the_table() -> None:
    calibration = small_calibration()
    top = calibration.quantiles[-1]
    scores = calibration.score(np.linspace(top, 200 * top, 20_000))
    assert (np.diff(scores) > 0).all()
    assert calibration.score([1e6])[0] < 1.0


def test_tail_is_continuous_with_the_table() -> None:
    calibration = small_calibration()
    top = calibration.quantiles[-1]
    below, above = calibration.score([top, np.nextafter(top, np.inf)])
    assert above == pytest.approx(below, abs=1e-12)


def test_lowest_values_score_zero_and_nan_stays_nan() -> None:
    calibration = small_calibration()
    assert calibration.score([-1e9, calibration.quantiles[0]]).tolist() == [0.0, 0.0]
    assert np.isnan(calibration.score([np.nan])[0])


def test_fit_with_tied_quantiles_and_few_rows() -> None:
    quantiles = [0.0] * 60 + [1.0 + i for i in range(len(PROBABILITIES) - 60)]
    calibration = Calibration.fit(PROBABILITIES, quantiles, 150)
    assert calibration.probabilities[-1] < 1 - 1 / 151 + 1e-9
    assert calibration.score([1e9])[0] < 1.0


def test_tied_values_share_the_lowest_rank() -> None:
    values = np.sort(np.random.default_rng(5).exponential(2.0, 100_000))
    values[:30_000], values[-5_000:] = 0.0, values[-5_000]
    table = np.quantile(values, PROBABILITIES, method="inverted_cdf").tolist()
    fitted = Calibration.fit(PROBABILITIES, table, len(values))
    assert fitted.tail_share([0.0, values[-1]]) == pytest.approx([1.0, 0.05], abs=0.021)
    assert fitted.score([0.0])[0] == 0.0


@pytest.mark.parametrize(
    ("probabilities", "quantiles"),
    [
        ([0.0, 0.5], [1.0]),
        ([0.0, 0.5], [1.0, float("nan")]),
        ([0.5, 0.0], [1.0, 2.0]),
        ([0.0, 0.5], [2.0, 1.0]),
        ([0.0, 1.0], [1.0, 2.0]),
        ([0.0, 0.5], [1.0, 1.0]),
        ([], []),
    ],
)
def test_invalid_table_is_rejected(probabilities: list[float], quantiles: list[float]) -> None:
    with pytest.raises(FraudScoringError, match="calibration table"):
        Calibration.fit(probabilities, quantiles, 1000)


def test_round_trip() -> None:
    calibration = small_calibration().with_alert_thresholds([[0.5, 0.9], [0.8, 0.7, 0.6]])
    text = json.dumps(calibration.to_dict())
    assert Calibration.from_dict(json.loads(text)) == calibration


def test_every_night_fills_the_alert_budget() -> None:
    rng = np.random.default_rng(2)
    nights = [rng.random(size).tolist() for size in (300, 120, 500)]
    calibration = small_calibration().with_alert_thresholds(nights)
    for budget in (1, 7, 119, 120):
        threshold = calibration.threshold_for(budget)
        assert min(sum(s >= threshold for s in night) for night in nights) == budget
    assert calibration.threshold_for(10_000) == calibration.threshold_for(120)


def test_threshold_without_budget_or_nights_is_rejected() -> None:
    with pytest.raises(UsageError):
        small_calibration().threshold_for(5)
    with pytest.raises(UsageError):
        small_calibration().with_alert_thresholds([[0.5]]).threshold_for(0)
    for nights in ([], [[0.5], []]):
        with pytest.raises(FraudScoringError, match="no scored card"):
            small_calibration().with_alert_thresholds(nights)
