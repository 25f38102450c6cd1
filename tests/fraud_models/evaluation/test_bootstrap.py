"""Bootstrap weights of cards and nights, and metrics of binned counts."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud_models.evaluation import bootstrap
from fraud_models.evaluation.card_precision import (
    card_precision_per_night,
    resampled_card_precision,
)

rows = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=60)


@given(rows)
def test_metrics_of_binned_counts_equal_sklearn(drawn: list[tuple[int, bool]]) -> None:
    bins = np.array([score_bin for score_bin, _ in drawn])
    frauds = np.array([fraud for _, fraud in drawn])
    positives, negatives = (
        np.bincount(bins[side], minlength=7).astype(float) for side in (frauds, ~frauds)
    )
    area = float(bootstrap.roc_auc(positives, negatives))
    mean = float(bootstrap.average_precision(positives, negatives))
    if frauds.any():
        assert mean == pytest.approx(average_precision_score(frauds, bins))
    else:
        assert np.isnan(mean)
    if frauds.any() and not frauds.all():
        assert area == pytest.approx(roc_auc_score(frauds, bins))
    else:
        assert np.isnan(area)


def test_card_weights_are_poisson_and_depend_on_the_hash_only() -> None:
    hashes = np.random.default_rng(3).integers(-(2**63), 2**63 - 1, 20_000)
    weights = bootstrap.card_weights(hashes, 40)
    assert (weights[:, 0] == 1).all()
    drawn = weights[:, 1:].astype(float)
    assert drawn.mean() == pytest.approx(1.0, abs=0.01)
    assert drawn.var() == pytest.approx(1.0, abs=0.02)
    assert (drawn == 0).mean() == pytest.approx(np.exp(-1), abs=0.005)
    between = np.corrcoef(drawn.T)
    assert np.abs(between - np.eye(39)).max() < 0.05
    shuffled = np.random.default_rng(4).permutation(len(hashes))
    assert (bootstrap.card_weights(hashes[shuffled], 40) == weights[shuffled]).all()


def test_card_weights_of_neighbouring_hashes_are_uncorrelated() -> None:
    weights = bootstrap.card_weights(np.arange(5000), 21)[:, 1:].astype(float)
    assert np.abs(np.corrcoef(weights.T) - np.eye(20)).max() < 0.08
    assert abs(np.corrcoef(weights[:-1, 0], weights[1:, 0])[0, 1]) < 0.08


def test_night_weights_sum_to_the_number_of_nights() -> None:
    drawn = bootstrap.night_weights(week_from(date(2024, 1, 1)), 100)
    assert (drawn[0] == 1).all() and (drawn.sum(axis=1) == 7).all()
    assert len({tuple(row) for row in drawn.tolist()}) > 90


def test_night_weights_of_different_weeks_are_uncorrelated() -> None:
    weeks = [week_from(date(2024, 1, day)) for day in (1, 8, 8)]
    one, other, again = (bootstrap.night_weights(week, 200) for week in weeks)
    assert np.array_equal(other, again)
    assert abs(np.corrcoef(one[1:].ravel(), other[1:].ravel())[0, 1]) < 0.1


def week_from(first: date) -> list[date]:
    return [first + timedelta(days=number) for number in range(7)]


def test_interval_is_centred_on_the_exact_metric() -> None:
    replicates = np.concatenate([[0.50], np.linspace(0.40, 0.60, 201)])
    assert bootstrap.interval(0.52, replicates) == pytest.approx((0.425, 0.615))
    undefined = np.full(200, np.nan)
    assert bootstrap.interval(0.5, undefined) is None
    assert bootstrap.interval(0.5, np.concatenate([[0.5], undefined])) is None


def test_interval_covers_the_true_mean_at_its_nominal_rate() -> None:
    """Bootstrap the mean of one value per card: 95 % intervals mostly contain the true mean."""
    rng = np.random.default_rng(8)
    num_covered = 0
    for _ in range(200):
        hashes = rng.integers(-(2**63), 2**63 - 1, 120)
        values = rng.exponential(1.0, 120)
        weights = bootstrap.card_weights(hashes, 200).astype(float)
        means = (weights * values[:, None]).sum(axis=0) / weights.sum(axis=0)
        found = bootstrap.interval(float(values.mean()), means)
        assert found is not None
        num_covered += found[0] <= 1.0 <= found[1]
    assert 170 <= num_covered <= 200


def test_resampled_card_precision_counts_copies_of_cards() -> None:
    def night(*events: tuple[str, float, bool, str]) -> pd.DataFrame:
        return pd.DataFrame(events, columns=["card_id", "score", "is_fraud", "transaction_id"])

    first = night(("a", 0.9, True, "1"), ("b", 0.8, False, "2"), ("c", 0.7, True, "3"))
    second = night(("a", 0.9, True, "4"), ("b", 0.8, False, "5"), ("c", 0.7, True, "6"))
    weights = pd.DataFrame({0: [1, 1, 1], 1: [2, 0, 1], 2: [0, 5, 1]}, index=["a", "b", "c"])
    found = resampled_card_precision([first, second], 2, weights)
    assert found[0].tolist() == card_precision_per_night([first, second], 2) == [0.5, 0.5]
    # Two copies of `a` fill the first night; on the second night `a` is removed and `c` is left.
    assert found[1].tolist() == [1.0, 0.5]
    # Five copies of `b` and no `a`: no fraud is detected.
    assert found[2].tolist() == [0.0, 0.0]
