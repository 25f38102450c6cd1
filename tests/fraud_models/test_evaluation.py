"""Figures against scikit-learn and against the protocol, written out."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from fraud_models.baselines import fit_isolation_forest, forest_scores
from fraud_models.evaluation import (
    average_precision,
    card_precision_at_k,
    card_precision_per_night,
    cumulative_counts,
    roc_auc,
)
from fraud_models.promotion import decide
from fraud_models.recipes import lstm_autoencoder
from fraud_models.splits import (
    compromised_cards,
    evaluation_nights,
    is_out_of_sample,
    training_days,
)

rows = st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60)


@given(rows)
def test_figures_equal_those_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores, fraud = np.array([s for s, _ in pairs]) / 7, np.array([f for _, f in pairs])
    assume(fraud.any() and not fraud.all())
    counts = cumulative_counts(scores, fraud)
    assert average_precision(*counts) == pytest.approx(
        average_precision_score(fraud, scores), abs=1e-12
    )
    assert roc_auc(*counts) == pytest.approx(roc_auc_score(fraud, scores), abs=1e-12)


def test_figures_without_frauds_are_unknown() -> None:
    assert np.isnan(average_precision([0, 0], [1, 2]))
    assert np.isnan(roc_auc([0], [1]))
    assert np.isnan(roc_auc([1], [0]))
    assert np.isnan(average_precision([], []))
    assert np.isnan(card_precision_at_k([], 5))


def night(*events: tuple[str, float, bool, str]) -> pd.DataFrame:
    return pd.DataFrame(events, columns=["card_id", "score", "is_fraud", "transaction_id"])


def test_detected_cards_are_gone_from_later_nights() -> None:
    first = night(("a", 0.9, True, "1"), ("b", 0.8, False, "2"), ("c", 0.7, True, "3"))
    second = night(("a", 0.9, True, "4"), ("b", 0.8, False, "5"), ("c", 0.7, True, "6"))
    assert card_precision_per_night([first, second], 2) == [0.5, 0.5]
    assert card_precision_at_k([first, second], 2) == 0.5


def test_a_card_counts_once_with_its_highest_score_and_any_fraud() -> None:
    events = night(("a", 0.9, False, "1"), ("a", 0.1, True, "2"), ("b", 0.8, False, "3"))
    assert card_precision_per_night([events], 1) == [1.0]


def test_ties_go_to_the_smaller_transaction() -> None:
    events = night(("b", 0.9, False, "1"), ("a", 0.9, True, "2"))
    assert card_precision_per_night([events], 1) == [0.0]


def test_fewer_cards_than_k_still_divide_by_k() -> None:
    assert card_precision_per_night([night(("a", 0.9, True, "1"))], 4) == [0.25]


def test_cards_are_out_when_their_fraud_was_known_and_recent() -> None:
    first = date(2018, 7, 11)
    frauds = pd.DataFrame(
        {
            "card_id": ["known", "unknown", "old", "edge"],
            "event_time": pd.to_datetime(
                ["2018-07-01", "2018-07-05", "2018-06-26 23:59:59", "2018-06-27"],
                utc=True,
                format="ISO8601",
            ),
            "label_time": pd.to_datetime(
                ["2018-07-08", "2018-07-12 00:00:01", "2018-07-03", "2018-07-12"],
                utc=True,
                format="ISO8601",
            ),
        }
    )
    assert compromised_cards(frauds, date(2018, 7, 12), first) == {"known", "edge"}
    assert compromised_cards(frauds, date(2018, 7, 11), first) == {"known"}
    naive = frauds.assign(label_time=frauds["label_time"].dt.tz_localize(None))
    assert compromised_cards(naive, date(2018, 7, 11), first) == {"known"}


def test_days() -> None:
    config = lstm_autoencoder()
    days = training_days(date(2018, 7, 4), config)
    assert (days.as_of - days.train_from).days == config.train_days
    assert (days.as_of - days.validation_from).days == config.validation_days
    assert 28 <= (days.train_from - days.context_from).days <= 55
    assert len(evaluation_nights(date(2018, 7, 4), date(2018, 7, 10))) == 7
    with pytest.raises(Exception, match="not before the first"):
        evaluation_nights(date(2018, 7, 4), date(2018, 7, 3))
    assert is_out_of_sample(date(2018, 7, 4), date(2018, 7, 4))
    assert not is_out_of_sample(date(2018, 7, 4), date(2018, 7, 3))


FIGURES: dict[str, float | None] = {"average_precision": 0.6, "cp_at_k": 0.3}


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
def test_promotion(challenger: dict[str, float | None], promoted: bool) -> None:
    decision = decide(challenger, FIGURES)
    assert decision.promote is promoted
    assert len(decision.reasons) == 2


@pytest.mark.parametrize("unknown", [{}, {"average_precision": float("nan"), "cp_at_k": 0.1}])
def test_an_unknown_incumbent_promotes_nobody(unknown: dict[str, float | None]) -> None:
    assert not decide(FIGURES, unknown).promote


def test_the_forest_finds_what_is_far_off() -> None:
    values = np.random.default_rng(1).normal(size=(500, 3))
    values[0], values[1, 1] = 9.0, np.nan
    forest = fit_isolation_forest(values, seed=4)
    scores = forest_scores(forest, values)
    assert scores.argmax() == 0
    assert np.array_equal(scores, forest_scores(fit_isolation_forest(values, seed=4), values))
    assert np.isfinite(scores).all()
    assert len(forest_scores(forest, np.empty((0, 3)))) == 0
