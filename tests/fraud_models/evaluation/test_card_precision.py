"""Card precision, training days, promotion margins and the isolation forest."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from fraud_models.evaluation.baselines import (
    boosted_scores,
    fit_boosted_trees,
    fit_isolation_forest,
    forest_scores,
)
from fraud_models.evaluation.card_precision import (
    card_precision_at_k,
    card_precision_per_night,
)
from fraud_models.evaluation.splits import (
    is_out_of_sample,
    training_days,
)
from fraud_models.recipes import lstm_autoencoder
from fraud_models.registry.promotion import margins


def test_card_precision_without_nights_is_nan() -> None:
    assert np.isnan(card_precision_at_k([], 5))


def night(*events: tuple[str, float, bool, str]) -> pd.DataFrame:
    return pd.DataFrame(events, columns=["card_id", "score", "is_fraud", "transaction_id"])


def test_detected_cards_are_removed_from_later_nights() -> None:
    first = night(("a", 0.9, True, "1"), ("b", 0.8, False, "2"), ("c", 0.7, True, "3"))
    second = night(("a", 0.9, True, "4"), ("b", 0.8, False, "5"), ("c", 0.7, True, "6"))
    assert card_precision_per_night([first, second], 2) == [0.5, 0.5]
    assert card_precision_at_k([first, second], 2) == 0.5


def test_card_counts_once_with_highest_score_and_any_fraud() -> None:
    events = night(("a", 0.9, False, "1"), ("a", 0.1, True, "2"), ("b", 0.8, False, "3"))
    assert card_precision_per_night([events], 1) == [1.0]


def test_ties_are_ordered_by_transaction_id() -> None:
    events = night(("b", 0.9, False, "1"), ("a", 0.9, True, "2"))
    assert card_precision_per_night([events], 1) == [0.0]


def test_fewer_cards_than_k_are_divided_by_k() -> None:
    assert card_precision_per_night([night(("a", 0.9, True, "1"))], 4) == [0.25]


def test_training_days_and_out_of_sample_nights() -> None:
    config = lstm_autoencoder()
    days = training_days(date(2018, 7, 4), config)
    assert (days.as_of - days.train_from).days == config.train_days
    assert (days.as_of - days.validation_from).days == config.validation_days
    assert is_out_of_sample(date(2018, 7, 4), date(2018, 7, 4))
    assert not is_out_of_sample(date(2018, 7, 4), date(2018, 7, 3))


METRICS: dict[str, float | None] = {"average_precision": 0.6, "cp_at_k": 0.3}


@pytest.mark.parametrize(
    ("challenger", "promoted"),
    [
        ({"average_precision": 0.6, "cp_at_k": 0.3}, True),
        ({"average_precision": 0.7, "cp_at_k": 0.29}, False),
        ({"average_precision": 0.59, "cp_at_k": 0.4}, False),
        ({"average_precision": float("nan"), "cp_at_k": 0.4}, False),
        ({"average_precision": None, "cp_at_k": 0.4}, False),
        ({"cp_at_k": 0.4}, False),
    ],
)
def test_margins_are_nonnegative_only_for_a_promotable_challenger(
    challenger: dict[str, float | None], promoted: bool
) -> None:
    found = margins(challenger, METRICS)
    assert set(found) == {"average_precision", "cp_at_k"}
    assert all(margin is not None and margin >= 0 for margin in found.values()) is promoted


@pytest.mark.parametrize("unknown", [{}, {"average_precision": float("nan"), "cp_at_k": 0.1}])
def test_margins_of_an_unknown_incumbent_are_none(unknown: dict[str, float | None]) -> None:
    assert None in margins(METRICS, unknown).values()


def test_isolation_forest_ranks_an_outlier_first() -> None:
    values = np.random.default_rng(1).normal(size=(500, 3))
    values[0], values[1, 1] = 9.0, np.nan
    forest = fit_isolation_forest(values, seed=4)
    scores = forest_scores(forest, values)
    assert scores.argmax() == 0
    assert np.array_equal(scores, forest_scores(fit_isolation_forest(values, seed=4), values))
    assert np.isfinite(scores).all()
    assert len(forest_scores(forest, np.empty((0, 3)))) == 0


@pytest.mark.parametrize("num_classes", [6, 400])
def test_baselines_read_codes_of_categories(num_classes: int) -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 3, 3000).astype(float)
    rare = rng.random(3000) < 0.01
    codes[rare] = num_classes - 1
    # Every class occurs, so there are more than the trees can tell apart.
    codes[-num_classes:] = np.arange(num_classes)
    frauds = codes == 1
    codes[5::50] = np.nan
    values = np.stack([rng.normal(size=3000), codes], axis=1)
    trees = fit_boosted_trees(values, frauds, seed=1, categorical=[1])
    assert trees.is_categorical_.tolist() == [False, True]
    odds = boosted_scores(trees, values, [1])
    assert odds[codes == 1].min() > odds[(codes == 0) | (codes == 2)].max()
    forest = fit_isolation_forest(values, seed=1, categorical=[1])
    scores = forest_scores(forest, values, [1])
    assert scores[codes == num_classes - 1].mean() > scores[codes == 0].mean() + 0.05
    # A missing category is not the most frequent one.
    missing = forest_scores(forest, np.array([[0.0, np.nan], [0.0, 0.0]]), [1])
    assert missing[0] > missing[1]
