"""A catalogue with every function of the language, for tests."""

from __future__ import annotations

from decimal import Decimal

from feature_defs.catalogue import collect
from feature_defs.derived import Ratio, SmoothedRate
from feature_defs.feature import CARD, CARD_AT_MERCHANT, MERCHANT, Condition
from feature_defs.language import (
    FeatureView,
    count,
    days,
    distinct,
    first_time,
    fraud_count,
    fraud_rate,
    label_count,
    maximum,
    mean,
    minimum,
    seconds_between,
    seconds_since_last,
    share,
    standard_deviation,
    total,
)
from feature_defs.sources import TRANSACTIONS

LARGE = Condition("large", "amount", ">=", 50_000)
SMALL = Condition("small", "amount", "<", Decimal("20000.5"))
ELSEWHERE = Condition("elsewhere", "merchant_id", "!=", "m1")

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
    ),
    "every function of a merchant",
)
PAIR_VIEW = FeatureView(
    CARD_AT_MERCHANT,
    TRANSACTIONS,
    (first_time(days(2, 30)), count(days(30)), seconds_since_last(days(30))),
    "functions of a card at a merchant",
)

EVERY_FUNCTION = collect(
    (CARD_VIEW, MERCHANT_VIEW, PAIR_VIEW),
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
