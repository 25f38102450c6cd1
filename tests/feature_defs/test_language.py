"""Invalid definitions raise an error, and fingerprints depend on values only."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from every_function import EVERY_FUNCTION

from feature_defs import catalogue
from feature_defs.catalogue import collect
from feature_defs.derived import Ratio, SmoothedRate
from feature_defs.errors import DefinitionError
from feature_defs.feature import CARD, MERCHANT, Condition, Entity, Function, Kind, Window
from feature_defs.language import (
    Aggregation,
    FeatureView,
    count,
    days,
    distinct,
    first_time,
    fraud_count,
    fraud_rate,
    hours,
    label_count,
    mean,
    minutes,
    seconds_since_last,
)
from feature_defs.sequences import SequenceView
from feature_defs.sources import LABELS, TRANSACTIONS


def test_catalogue_has_the_derived_feature_names() -> None:
    assert set(catalogue.FEATURES) >= {
        "transaction_amount",
        "transaction_hour_of_day",
        "transaction_day_of_week",
        *(f"card_count_{n}d" for n in (1, 7, 30)),
        *(f"card_amount_mean_{n}d" for n in (1, 7, 30)),
        "card_seconds_since_last_30d",
        *(f"merchant_count_{n}d_delay_7d" for n in (1, 7, 30)),
        *(f"merchant_fraud_rate_{n}d_delay_7d" for n in (1, 7, 30)),
    }


def test_lookback_equals_the_longest_window() -> None:
    windows = [f.window for f in catalogue.FEATURES.values() if f.window]
    assert max(w.length_days + w.delay_days for w in windows) == catalogue.LOOKBACK_DAYS
    assert TRANSACTIONS.max_lookback_days >= catalogue.LOOKBACK_DAYS


LARGE = Condition("large", "amount", ">", 100)
ONE_DAY = days(1)


def smoothed(part: str, whole: str) -> object:
    rate = SmoothedRate(f"merchant_{part}", f"merchant_{whole}", 0.1, 1, "")
    return rate.feature(catalogue.FEATURES)


def view(*aggregations: Aggregation, entity: Entity = CARD) -> FeatureView:
    return FeatureView(entity, TRANSACTIONS, aggregations, "")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Window(0), "at least 1 day"),
        (lambda: Window(1, delay_days=-1), "0 days or more"),
        (lambda: minutes(0), "at least 1 day or 1 minute long"),
        (lambda: hours(-1), "at least 1 day or 1 minute long"),
        (lambda: hours(1, delay=-1), "0 days or more"),
        (lambda: hours(1.5), "whole hours: 1.5 is not an integer"),  # type: ignore[arg-type]
        (lambda: minutes(True), "whole minutes: True is not an integer"),
        (lambda: Window(1, length_minutes=10), "write whole days as days"),
        (lambda: Window(length_minutes=1440), "write whole days as days"),
        (lambda: count((*hours(1), *minutes(60))), "same window more than once: 1h"),
        (lambda: fraud_count(hours(1)), "needs a delay"),
        (lambda: first_time(minutes(10, delay=1)), "cannot have a delay"),
        (lambda: view(count(hours(2161))), "the window 2161h starts 91 days .* is 90 days"),
        (lambda: count(()), "at least one window"),
        (lambda: count((Window(1), Window(1))), "same window more than once: 1d"),
        (lambda: days(7.5), "7.5 is not an integer"),  # type: ignore[arg-type]
        (lambda: count(7), "7 is not a tuple of windows; write days"),  # type: ignore[arg-type]
        (
            lambda: FeatureView(CARD, TRANSACTIONS, count(ONE_DAY), ""),  # type: ignore[arg-type]
            "needs a comma at its end",
        ),
        (lambda: view(), "at least one aggregation"),
        (lambda: view(ONE_DAY), "must be a tuple, such as"),  # type: ignore[arg-type]
        (lambda: count(ONE_DAY, "amount > 100"), "not a condition; write"),  # type: ignore[arg-type]
        (lambda: Entity("card_id", "card_id"), "a tuple of columns.*not 'card_id'"),  # type: ignore[arg-type]
        (lambda: Entity("card", ()), "a tuple of columns"),
        (lambda: Entity("The Card", ("card_id",)), "lower-case letters"),
        (lambda: view(count(days(120))), "view of card: count: the window 120d .* is 90 days"),
        (lambda: collect((), (Ratio("a", "b", ""),)), "a_over_b: there is no feature a or b"),
        (
            lambda: collect((), (Ratio("transaction_amount", "transaction_amount", ""),)),
            "two different amounts",
        ),
        (
            lambda: collect((), (Ratio("transaction_amount", "transaction_day_of_week", ""),)),
            "transaction_day_of_week cannot be part of this ratio",
        ),
        (
            lambda: catalogue.check_columns(("no_such",), catalogue.FEATURES),
            "CARD_EVENTS reads no_such",
        ),
        (lambda: fraud_rate(days(7)), "needs a delay"),
        (lambda: fraud_count(days(7)), "needs a delay"),
        (lambda: label_count(days(7)), "needs a delay"),
        (lambda: seconds_since_last(days(7, delay=7)), "cannot have a delay"),
        (lambda: first_time(days(7, delay=7)), "cannot have a delay"),
        (lambda: Aggregation(Function.COUNT, ONE_DAY, "amount"), "takes no measure"),
        (lambda: Aggregation(Function.MEAN, ONE_DAY), "needs a measure"),
        (lambda: Aggregation(Function.DISTINCT, ONE_DAY), "needs a measure"),
        (lambda: Aggregation(Function.RATIO, ONE_DAY), "derived from features"),
        (lambda: Aggregation(Function.SHARE, ONE_DAY), "which events"),
        (
            lambda: Aggregation(Function.MAX, ONE_DAY, "amount", where=LARGE),
            "cannot have a condition",
        ),
        (lambda: Condition("Large", "amount", ">", 1), "lower-case letters"),
        (
            lambda: Condition("large", "amount", "=>", 1),
            "'=>' is not a valid operator; use one of <",
        ),
        (lambda: Condition("large", "amount", ">", 0.1), "not exact"),
        (lambda: Condition("large", "amount", ">", True), "not exact"),
        (lambda: view(mean("card_id", ONE_DAY)), "view of card: mean of card_id.*decimal"),
        (lambda: view(distinct("amount", ONE_DAY)), "use a text column"),
        (lambda: view(distinct("card_id", ONE_DAY)), "not a key"),
        (lambda: view(count(ONE_DAY, Condition("a", "amount", "<", "x"))), "cannot be compared"),
        (lambda: view(count(ONE_DAY, Condition("a", "card_id", "<", 1))), "cannot be compared"),
        (lambda: view(count(days(60, delay=31))), "60d_delay_31d starts 91 .* is 90 days"),
        (lambda: Ratio("nothing", "neither", "").feature({}), "nothing or neither"),
        (
            lambda: SmoothedRate("transaction_amount", "card_count_1d", 0.1, 1, "").feature(
                catalogue.FEATURES
            ),
            "transaction_amount is not a count",
        ),
        (lambda: SmoothedRate("a", "b", 1.0, 1, ""), "prior rate"),
        (lambda: SmoothedRate("a", "b", 0.0, 1, ""), "prior rate"),
        (lambda: SmoothedRate("a", "b", 0.5, 0, ""), "must be above 0"),
        (lambda: SmoothedRate("a", "b", 0.5, 10**400, ""), "must be above 0 and at most"),
        (
            lambda: smoothed("fraud_count_7d_delay_7d", "label_count_1d_delay_7d"),
            "does not count a subset of what merchant_label_count_1d_delay_7d counts",
        ),
        (lambda: smoothed("label_count_7d_delay_7d", "fraud_count_7d_delay_7d"), "does not count"),
        (lambda: smoothed("label_count_7d_delay_7d", "label_count_7d_delay_7d"), "does not count"),
        (lambda: Condition("a", "amount", ">", Decimal("NaN")), "NaN is not a valid amount"),
        (lambda: Condition("a", "amount", ">", Decimal("sNaN")), "sNaN is not a valid amount"),
        (
            lambda: Condition("a", "amount", ">", Decimal("-Infinity")),
            "-Infinity is not a valid amount",
        ),
        (lambda: Condition("a", "amount", ">", 10**15), "up to 15 digits"),
        (lambda: Condition("a", "amount", "==", Decimal("0.0005")), "and 3 after it"),
        (
            lambda: mean("amount", ONE_DAY, empty=float("nan")),
            "mean of amount: nan is not a valid value over",
        ),
        (
            lambda: mean("amount", ONE_DAY, empty=True),
            "True is not a valid value over an empty window",
        ),
        (lambda: fraud_rate(days(7, delay=7), empty=7.0), "a number from 0 to 1, or None"),
        (
            lambda: Aggregation(Function.COUNT, ONE_DAY, empty=5.0),
            "over an empty window cannot be chosen",
        ),
        (lambda: FeatureView(CARD, LABELS, (count(ONE_DAY),), ""), "source must be transactions"),
        (lambda: SequenceView(CARD, 0, 10, 1, ("a",)), "at least 1 day"),
        (lambda: SequenceView(CARD, 1, 10, 10, ("a",)), "warm_up_events"),
        (lambda: SequenceView(CARD, 1, 10, 1, ("a", "a")), "more than once"),
    ],
)
def test_invalid_definition_raises_definition_error(build: object, message: str) -> None:
    assert callable(build)
    with pytest.raises(DefinitionError, match=message):
        build()


def test_misspelt_columns_are_all_listed_with_the_valid_ones() -> None:
    with pytest.raises(DefinitionError) as raised:
        view(
            mean("amuont", ONE_DAY),
            count(ONE_DAY, Condition("odd", "merchnat_id", "==", "m")),
            entity=Entity("terminal", ("terminal",)),
        )
    message = str(raised.value)
    assert message.startswith("view of terminal: ")
    for name in ("terminal", "amuont", "merchnat_id"):
        assert f"no column '{name}'; it has: transaction_id" in message


def test_unknown_feature_raises_key_error_with_the_valid_names() -> None:
    with pytest.raises(KeyError, match="card_count_1d"):
        catalogue.feature("card_count_2d")


def test_duplicate_feature_name_raises_definition_error() -> None:
    repeated = view(count(ONE_DAY), entity=MERCHANT)
    with pytest.raises(DefinitionError, match="merchant_count_1d"):
        collect((repeated, repeated))


def test_names_include_condition_and_parts() -> None:
    assert {
        "card_count_large_2d_delay_1d",
        "card_share_small_3d_delay_3d",
        "card_merchant_id_distinct_8d",
        "card_at_merchant_first_time_30d",
        "transaction_amount_over_card_amount_std_7d",
        "merchant_fraud_count_30d_delay_7d_smoothed",
    } <= set(EVERY_FUNCTION)


def test_fingerprint_depends_on_values_and_not_on_texts() -> None:
    feature = catalogue.feature("card_count_7d")
    assert replace(feature, description="other words").fingerprint == feature.fingerprint
    named = replace(feature, where=LARGE).fingerprint
    assert replace(feature, where=replace(LARGE, name="other")).fingerprint == named
    same = replace(LARGE, value=Decimal("100.00"))
    assert replace(feature, where=same).fingerprint == named
    changes = {
        "window": Window(8), "entity": MERCHANT, "empty": 0.0, "source": "other", "where": LARGE,
        "parts": (feature,), "prior": (0.1, 1.0), "function": Function.LABEL_COUNT,
        "measure": "amount", "kind": Kind.RATE,
    }  # fmt: skip
    changed = {replace(feature, **{name: value}).fingerprint for name, value in changes.items()}
    changed |= {
        replace(feature, where=replace(LARGE, **change)).fingerprint
        for change in ({}, {"column": "other"}, {"operator": ">="}, {"value": 101})
    }
    # The unchanged condition is counted in both lists.
    assert len(changed | {feature.fingerprint}) == len(changes) + 1 + 3


RELEASED = {
    "transaction_amount": "5a98dfd2f0ed5b9a",
    "transaction_hour_of_day": "6b344a9d358bce8f",
    "transaction_day_of_week": "80eb3a6f84717ec4",
    "card_count_1d": "ed163384b729fc26",
    "card_count_7d": "5f103c29499f70c9",
    "card_count_30d": "4529e6baa5f79dd4",
    "card_amount_mean_1d": "427f6d16d87ec321",
    "card_amount_mean_7d": "2f2835995fb7cca6",
    "card_amount_mean_30d": "fcaa1b038a832596",
    "card_amount_mean_30d_delay_14d": "e3d64fbbb119880c",
    "card_seconds_since_last_30d": "a96e92e71803e162",
    "merchant_count_1d_delay_7d": "b0b0feb02b537cf9",
    "merchant_count_7d_delay_7d": "1f0aa70c1c4ce543",
    "merchant_count_30d_delay_7d": "9726ad0a99c611cd",
    "merchant_fraud_rate_1d_delay_7d": "c44e33a64351acfd",
    "merchant_fraud_rate_7d_delay_7d": "69b2c68b059e1ff7",
    "merchant_fraud_rate_30d_delay_7d": "b9614af38d2fe1c1",
    "merchant_fraud_count_1d_delay_7d": "185856e3216be6a8",
    "merchant_fraud_count_3d_delay_7d": "657b069850b75487",
    "merchant_fraud_count_7d_delay_7d": "940ce058ffcd9eb0",
    "merchant_fraud_count_30d_delay_7d": "c857613c907fd68d",
    "merchant_label_count_1d_delay_7d": "38b25bb73b56205b",
    "merchant_label_count_3d_delay_7d": "d4520b01751b3840",
    "merchant_label_count_7d_delay_7d": "98fd33a3c58dfe8a",
    "merchant_label_count_30d_delay_7d": "222f9411a737ddc3",
    "merchant_fraud_count_10d_delay_28d": "e5a07ed14aded8cf",
    "merchant_label_count_10d_delay_28d": "baa823fbc14f42c5",
    "transaction_amount_over_card_amount_mean_30d_delay_14d": "d1631f0510890ee3",
    "card_amount_mean_7d_over_card_amount_mean_30d_delay_14d": "a8d464f54d20bafa",
    "merchant_fraud_count_1d_delay_7d_smoothed": "02c18ddf4c85058b",
    "merchant_fraud_count_3d_delay_7d_smoothed": "9d935963c2fc7f16",
    "merchant_fraud_count_7d_delay_7d_smoothed": "7acd31c169747ac0",
    "merchant_fraud_count_30d_delay_7d_smoothed": "e9659ba9236f2c81",
    "merchant_fraud_count_10d_delay_28d_smoothed": "f338e74f3596a08e",
    "merchant_fraud_count_3d_delay_7d_smoothed_over_"
    "merchant_fraud_count_10d_delay_28d_smoothed": "45a4f2251bbe933b",
    "merchant_fraud_count_7d_delay_7d_smoothed_over_"
    "merchant_fraud_count_10d_delay_28d_smoothed": "65c65ad79421f15f",
}


def test_fingerprints_of_released_features_are_unchanged() -> None:
    """Models in service were trained on columns with these fingerprints."""
    current = catalogue.fingerprints()
    assert {name: current.get(name) for name in RELEASED} == RELEASED


def test_windows_of_minutes_and_hours_have_names_and_lookbacks() -> None:
    names = [feature.name for feature in view(count((*minutes(10, 90), *hours(1, 6)))).features]
    assert names == ["card_count_10m", "card_count_90m", "card_count_1h", "card_count_6h"]
    (delayed,) = view(count(hours(6, delay=1))).features
    assert delayed.name == "card_count_6h_delay_1h"
    assert (delayed.window.lookback_s, delayed.lookback_days) == (7 * 3600, 1)  # type: ignore[union-attr]
    assert hours(24, 48, delay=24) == days(1, 2, delay=1)
    assert hours(25)[0].lookback_days == 2
    different = view(count((*hours(1), *days(1), *minutes(1)))).features
    assert len({feature.fingerprint for feature in different}) == 3
