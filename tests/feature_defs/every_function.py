"""A catalogue with every function of the language, for tests."""

from __future__ import annotations

from decimal import Decimal

from feature_defs.attributes import Attribute
from feature_defs.catalogue import collect
from feature_defs.derived import Ratio, SmoothedRate
from feature_defs.feature import CARD, CARD_AT_MERCHANT, MERCHANT, Condition, Entity, Kind
from feature_defs.language import (
    FeatureView,
    count,
    days,
    deviation,
    distinct,
    first_time,
    fraud_count,
    fraud_rate,
    hour_share,
    hours,
    kilometres_since_last,
    label_count,
    maximum,
    mean,
    minimum,
    minutes,
    quantile_rank,
    same_share,
    seconds_between,
    seconds_since_last,
    share,
    speed_since_last,
    standard_deviation,
    total,
)
from feature_defs.sources import TRANSACTIONS

LARGE = Condition("large", "amount", ">=", 50_000)
SMALL = Condition("small", "amount", "<", Decimal("20000.5"))
ELSEWHERE = Condition("elsewhere", "merchant_id", "!=", "m1")
ABROAD = Condition("abroad", "merchant_country", "!=", "FR")
OLD = Condition("old", "cardholder_age", ">=", Decimal("40.5"))
# An attribute of a bank's own.
POINTS = Attribute("loyalty_points", Kind.NUMBER, "Points of the cardholder.")

CARD_VIEW = FeatureView(
    CARD,
    TRANSACTIONS,
    (
        count(days(1, 30)),
        count(days(2, delay=1), where=LARGE),
        total("amount", days(7), where=ELSEWHERE),
        mean("amount", days(7), where=SMALL),
        minimum("amount", days(1, 9)),
        maximum("amount", days(7, delay=2)),
        standard_deviation("amount", days(7, 30)),
        share(LARGE, days(7)),
        share(SMALL, days(3, delay=3), empty=0.0),
        distinct("merchant_id", days(1, 8)),
        distinct("merchant_id", days(8, delay=2)),
        seconds_since_last(days(1, 30)),
        seconds_between(days(30)),
        count(hours(1, 6)),
        count(minutes(37, delay=37)),
        total("amount", hours(6, delay=1), where=ELSEWHERE),
        maximum("amount", hours(6)),
        distinct("merchant_id", minutes(37)),
        seconds_since_last(hours(1)),
        seconds_between(hours(6)),
        first_time(minutes(37)),
    ),
    "every function of a card",
)
MERCHANT_VIEW = FeatureView(
    MERCHANT,
    TRANSACTIONS,
    (
        distinct("card_id", days(30)),
        fraud_rate(days(1, 30, delay=7)),
        fraud_rate(days(7, delay=2), empty=0.0),
        fraud_count(days(30, delay=7)),
        label_count(days(30, delay=7)),
        mean("amount", days(30, delay=7)),
        minimum("amount", days(30)),
        standard_deviation("amount", days(30, delay=1)),
        distinct("card_id", minutes(37)),
        distinct("card_id", hours(6, delay=2)),
        fraud_count(hours(33, delay=168)),
        label_count(minutes(61, delay=60)),
        minimum("amount", hours(30)),
    ),
    "every function of a merchant",
)
PAIR_VIEW = FeatureView(
    CARD_AT_MERCHANT,
    TRANSACTIONS,
    (first_time(days(2, 30)), count(days(30)), seconds_since_last(days(30))),
    "functions of a card at a merchant",
)

# Features of attributes that need only sums, so that hot keys are split.
MERCHANT_ATTRIBUTES = FeatureView(
    MERCHANT,
    TRANSACTIONS,
    (
        distinct("merchant_category", days(7)),
        mean("cardholder_age", (*days(30), *hours(6))),
        mean("loyalty_points", days(7), where=ABROAD),
        total("original_amount", days(7)),
        standard_deviation("cardholder_age", days(30)),
        minimum("loyalty_points", hours(6)),
        maximum("cardholder_age", days(7)),
        deviation("amount", (*days(30, delay=7), *hours(30))),
        deviation("cardholder_age", days(30)),
        count(days(7), where=OLD),
        share(ABROAD, days(30)),
    ),
    "attributes of a merchant's payments",
    attributes=(POINTS,),
)
ACCOUNT = Entity("account", ("account_id",))
ACCOUNT_VIEW = FeatureView(
    ACCOUNT,
    TRANSACTIONS,
    (
        count((*days(30), *hours(6))),
        first_time(days(30)),
        seconds_since_last(days(30)),
        distinct("merchant_id", days(30)),
        same_share("merchant_category", (*days(7, 30), *minutes(37))),
        same_share("merchant_category", hours(30, delay=1)),
        quantile_rank("amount", (*days(30), *hours(6))),
        quantile_rank("loyalty_points", days(30, delay=1)),
        hour_share((*days(30), *hours(25))),
        kilometres_since_last((*days(30), *hours(1))),
        speed_since_last(days(30)),
    ),
    "every function of earlier events, of an entity that not every payment has",
    attributes=(POINTS,),
)
CARD_CATEGORY = Entity("card_category", ("card_id", "merchant_category"))
CARD_CATEGORY_VIEW = FeatureView(
    CARD_CATEGORY,
    TRANSACTIONS,
    (first_time(days(30)), count(hours(25))),
    "functions of a pair with an attribute",
)

EVERY_FUNCTION = collect(
    (
        CARD_VIEW,
        MERCHANT_VIEW,
        PAIR_VIEW,
        MERCHANT_ATTRIBUTES,
        ACCOUNT_VIEW,
        CARD_CATEGORY_VIEW,
    ),
    (
        Ratio("transaction_amount", "card_amount_std_7d", "amount over its standard deviation"),
        Ratio("card_seconds_since_last_30d", "card_seconds_between_30d", "gap over the mean gap"),
        SmoothedRate(
            "merchant_fraud_count_30d_delay_7d",
            "merchant_label_count_30d_delay_7d",
            prior_rate=0.01,
            prior_weight=20,
            description="fraud rate with a prior",
        ),
    ),
)
