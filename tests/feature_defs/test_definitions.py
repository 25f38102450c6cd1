"""Definitions refuse what could not be computed honestly, and their fingerprints follow values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from feature_defs import catalogue
from feature_defs.catalogue import _unique
from feature_defs.definitions import (
    CARD,
    MERCHANT,
    Aggregation,
    Entity,
    FeatureView,
    Function,
    SequenceView,
    Window,
    count,
    days,
    fraud_rate,
    mean,
    seconds_since_last,
)
from feature_defs.sources import TRANSACTIONS


def test_names_are_derived_from_definitions() -> None:
    assert set(catalogue.FEATURES) == {
        "transaction_amount",
        "transaction_hour_of_day",
        "transaction_day_of_week",
        *(f"card_count_{n}d" for n in (1, 7, 30)),
        *(f"card_amount_mean_{n}d" for n in (1, 7, 30)),
        "card_seconds_since_last_30d",
        *(f"merchant_count_{n}d_delay_7d" for n in (1, 7, 30)),
        *(f"merchant_fraud_rate_{n}d_delay_7d" for n in (1, 7, 30)),
    }


def test_the_lookback_is_that_of_the_longest_window() -> None:
    assert catalogue.LOOKBACK_DAYS == 30 + 7


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Window(0), "at least 1 day"),
        (lambda: Window(1, delay_days=-1), "0 days or more"),
        (lambda: count(()), "at least one window"),
        (lambda: count((Window(1), Window(1))), "same window twice"),
        (lambda: fraud_rate(days(7)), "needs a delay"),
        (lambda: seconds_since_last(days(7, delay=7)), "no delay"),
        (lambda: Aggregation(Function.COUNT, days(1), "amount"), "do not go together"),
        (lambda: Aggregation(Function.MEAN, days(1)), "do not go together"),
        (lambda: FeatureView(CARD, TRANSACTIONS, (mean("card_id", days(1)),), ""), "decimal"),
        (lambda: SequenceView(CARD, 0, 10, 1, ("a",)), "at least 1 day"),
        (lambda: SequenceView(CARD, 1, 10, 10, ("a",)), "warm_up_events"),
        (lambda: SequenceView(CARD, 1, 10, 1, ("a", "a")), "twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(build: object, words: str) -> None:
    assert callable(build)
    with pytest.raises(ValueError, match=words):
        build()


def test_misspelt_columns_are_refused_with_those_there_are() -> None:
    with pytest.raises(KeyError, match=r"amuont.*it has: transaction_id"):
        FeatureView(CARD, TRANSACTIONS, (mean("amuont", days(1)),), "")
    with pytest.raises(KeyError, match="terminal"):
        FeatureView(Entity("terminal", "terminal"), TRANSACTIONS, (count(days(1)),), "")


def test_unknown_features_are_refused_with_those_there_are() -> None:
    with pytest.raises(KeyError, match="card_count_1d"):
        catalogue.feature("card_count_2d")


def test_two_features_of_one_name_are_refused() -> None:
    one = FeatureView(MERCHANT, TRANSACTIONS, (count(days(1)),), "").features
    with pytest.raises(ValueError, match="merchant_count_1d"):
        _unique((*one, *one))


def test_a_fingerprint_follows_the_values_and_not_the_words() -> None:
    feature = catalogue.feature("card_count_7d")
    assert replace(feature, description="other words").fingerprint == feature.fingerprint
    changes = {"window": Window(8), "entity": MERCHANT, "empty": 0.0, "source": "other"}
    changed = {replace(feature, **{name: value}).fingerprint for name, value in changes.items()}
    assert len(changed | {feature.fingerprint}) == len(changes) + 1
