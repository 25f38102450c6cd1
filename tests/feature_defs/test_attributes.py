"""Features of attributes: declared, checked, and available only where a lake has the columns."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from feature_defs.attributes import STANDARD_ATTRIBUTES, Attribute
from feature_defs.catalogue import (
    FEATURES,
    available,
    collect,
    fingerprints,
    missing_attributes,
    require_available,
)
from feature_defs.derived import Ratio
from feature_defs.errors import DefinitionError, UsageError
from feature_defs.feature import CARD, Condition, Entity, Feature, Kind
from feature_defs.language import (
    Aggregation,
    FeatureView,
    count,
    days,
    distinct,
    first_time,
    kilometres_since_last,
    maximum,
    mean,
    same_share,
    share,
    speed_since_last,
    standard_deviation,
    total,
)
from feature_defs.sources import MONEY, TRANSACTIONS, Column

TIER = Attribute("loyalty_tier", Kind.CATEGORY, "Tier of the cardholder.")
ALL = {name: attribute.type for name, attribute in STANDARD_ATTRIBUTES.items()}


def view(
    *aggregations: Aggregation, entity: Entity = CARD, attributes: tuple[Attribute, ...] = ()
) -> dict[str, Feature]:
    views = (FeatureView(entity, TRANSACTIONS, aggregations, "", attributes),)
    return {f.name: f for one in views for f in one.features}


def test_attributes_can_be_measure_condition_key_and_category() -> None:
    device = Entity("device", ("device_id",))
    old = Condition("old", "cardholder_age", ">=", 60)
    features = view(
        count(days(7), where=old),
        mean("cardholder_age", days(7)),
        total("original_amount", days(7)),
        distinct("merchant_category", days(7)),
        same_share("loyalty_tier", days(7)),
        entity=device,
        attributes=(TIER,),
    )
    needed = {
        name: [column.name for column in feature.needed_attributes]
        for name, feature in features.items()
    }
    assert needed == {
        "device_count_old_7d": ["cardholder_age", "device_id"],
        "device_cardholder_age_mean_7d": ["cardholder_age", "device_id"],
        "device_original_amount_sum_7d": ["device_id", "original_amount"],
        "device_merchant_category_distinct_7d": ["device_id", "merchant_category"],
        "device_loyalty_tier_same_share_7d": ["device_id", "loyalty_tier"],
    }
    assert all(feature.has_nullable_key for feature in features.values())
    assert not FEATURES["card_count_7d"].has_nullable_key


def test_kind_of_a_measure_is_the_kind_of_the_feature() -> None:
    features = view(
        mean("cardholder_age", days(7)),
        maximum("merchant_latitude", days(7)),
        standard_deviation("original_amount", days(7)),
        mean("amount", days(7)),
        kilometres_since_last(days(7)),
        speed_since_last(days(7)),
    )
    kinds = [feature.kind for feature in features.values()]
    assert kinds == [
        Kind.AGE_YEARS, Kind.NUMBER, Kind.AMOUNT, Kind.AMOUNT, Kind.DISTANCE_KM, Kind.SPEED_KMH,
    ]  # fmt: skip
    assert FEATURES["transaction_merchant_category"].type == "string"
    assert FEATURES["transaction_cardholder_age"].kind is Kind.AGE_YEARS


def test_feature_is_available_only_with_its_attributes_of_the_declared_type() -> None:
    assert set(available(FEATURES, ALL)) == set(FEATURES)
    without = available(FEATURES)
    assert "card_count_1h" in without
    assert not any(feature.needed_attributes for feature in without.values())
    one = available(FEATURES, {"merchant_category": "string"})
    assert set(one) - set(without) == {
        "transaction_merchant_category",
        "card_merchant_category_same_share_30d",
        "card_in_category_first_time_30d",
    }
    travel = FEATURES["card_speed_since_last_7d"]
    assert missing_attributes(travel, {"merchant_latitude": "string"}) == [
        "merchant_latitude (string, not double)",
        "merchant_longitude",
    ]


def test_derived_feature_needs_the_attributes_of_its_parts() -> None:
    place = FeatureView(CARD, TRANSACTIONS, (kilometres_since_last(days(7)),), "")
    ratio = Ratio("card_kilometres_since_last_7d", "transaction_amount", "")
    feature = collect((place,), (ratio,))["card_kilometres_since_last_7d_over_transaction_amount"]
    assert [column.name for column in feature.needed_attributes] == [
        "merchant_latitude",
        "merchant_longitude",
    ]


def test_naming_features_that_are_not_available_is_refused_with_what_is_missing() -> None:
    require_available(("card_count_7d", "a_retired_column"), {})
    require_available(("transaction_channel",), ALL)
    names = ("card_count_7d", "transaction_channel", "card_speed_since_last_7d")
    with pytest.raises(UsageError) as raised:
        require_available(names, {"channel": "double"})
    assert (
        "transaction_channel needs channel (double, not string); card_speed_since_last_7d needs "
        "merchant_latitude, merchant_longitude"
    ) in str(raised.value)
    assert "[transactions.attributes]" in raised.value.remedy


def test_new_attribute_changes_no_fingerprint_of_features_that_do_not_read_it() -> None:
    before = fingerprints(available(FEATURES))
    after = fingerprints(available(FEATURES, ALL))
    assert {name: after[name] for name in before} == before
    share_of = view(same_share("merchant_category", days(7)))
    assert "scale" not in repr(share_of["card_merchant_category_same_share_7d"].fingerprint)


def test_fingerprint_depends_on_the_digits_of_a_measure() -> None:
    (feature,) = view(mean("cardholder_age", days(7))).values()
    assert replace(feature, scale=3).fingerprint != feature.fingerprint
    renamed = replace(feature, attributes=(Column("cardholder_age", MONEY),))
    assert renamed.fingerprint == feature.fingerprint


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: view(mean("merchant_city", days(1))), "mean of merchant_city.*not a number"),
        (lambda: view(distinct("cardholder_age", days(1))), "use a text column"),
        (lambda: view(same_share("loyalty_tier", days(1))), "Declare another one in the view"),
        (
            lambda: view(first_time(days(1)), entity=Entity("age", ("cardholder_age",))),
            "its key cardholder_age .double.: use a text column",
        ),
        (
            lambda: view(same_share("device_id", days(1)), entity=Entity("device", ("device_id",))),
            "not a key of the entity",
        ),
        (
            lambda: view(count(days(1)), attributes=(Attribute("card_id", Kind.CATEGORY, ""),)),
            "attribute card_id: transactions has this column already",
        ),
        (
            lambda: view(count(days(1)), attributes=(Attribute("channel", Kind.NUMBER, ""),)),
            "attribute channel: the standard attribute of this name is of kind category",
        ),
        (lambda: view(count(days(1)), attributes=[TIER]), "attributes must be a tuple"),  # type: ignore[arg-type]
        (
            lambda: view(share(Condition("far", "merchant_latitude", ">", "x"), days(1))),
            "cannot be compared",
        ),
        (lambda: view(kilometres_since_last(days(7, delay=1))), "cannot have a delay"),
        (lambda: view(speed_since_last(days(7, delay=1))), "cannot have a delay"),
    ],
)
def test_invalid_use_of_an_attribute_is_refused(build: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        build()


def test_condition_on_a_number_attribute_may_have_decimals() -> None:
    view(count(days(1), where=Condition("north", "merchant_latitude", ">", Decimal("66.5"))))
