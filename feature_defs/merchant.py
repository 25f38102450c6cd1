"""What we know about a merchant: delayed, because labels come late."""

from __future__ import annotations

from feature_defs.definitions import (
    FeatureView,
    count,
    days,
    fraud_count,
    fraud_rate,
    label_count,
)
from feature_defs.derived import Ratio, SmoothedRate
from feature_defs.feature import MERCHANT
from feature_defs.labels import LABEL_DELAY_DAYS
from feature_defs.sources import TRANSACTIONS

JUDGED_OVER_DAYS = (1, 3, 7, 30)
# Whoever broke into a merchant's terminal is found and gone in the end, and labels that are known
# by then say that for weeks to come. Four weeks and ten days were chosen on the handbook's nights
# before 2018-07-18.
BEFORE_DAYS, BEFORE_DELAY_DAYS = 10, 28

MERCHANT_RISK = FeatureView(
    entity=MERCHANT,
    source=TRANSACTIONS,
    aggregations=(
        count(days(1, 7, 30, delay=LABEL_DELAY_DAYS)),
        fraud_rate(days(1, 7, 30, delay=LABEL_DELAY_DAYS), empty=0.0),
    ),
    description="How busy the merchant was, and how much of that turned out to be fraud.",
)

MERCHANT_JUDGED = FeatureView(
    entity=MERCHANT,
    source=TRANSACTIONS,
    aggregations=(
        fraud_count(days(*JUDGED_OVER_DAYS, delay=LABEL_DELAY_DAYS)),
        label_count(days(*JUDGED_OVER_DAYS, delay=LABEL_DELAY_DAYS)),
        fraud_count(days(BEFORE_DAYS, delay=BEFORE_DELAY_DAYS)),
        label_count(days(BEFORE_DAYS, delay=BEFORE_DELAY_DAYS)),
    ),
    description="How many of the merchant's transactions were known to be frauds, or genuine.",
)

# A rate says the same of one fraud in two and of ten in twenty. Begun with a prior of two
# transactions at half a percent, the second says more, and one fraud among many little.
MERCHANT_FRAUD_CHANCES = tuple(
    SmoothedRate(
        part=f"merchant_fraud_count_{length}d_delay_{LABEL_DELAY_DAYS}d",
        whole=f"merchant_label_count_{length}d_delay_{LABEL_DELAY_DAYS}d",
        prior_rate=0.005,
        prior_weight=2.0,
        description="The chance that a transaction at the merchant is a fraud, as its labels say.",
    )
    for length in JUDGED_OVER_DAYS
)

# With a prior of twenty transactions: it takes several frauds to say that a merchant had many
# before, and one that had none is no better than one that nobody knew.
MERCHANT_CHANCE_BEFORE = SmoothedRate(
    part=f"merchant_fraud_count_{BEFORE_DAYS}d_delay_{BEFORE_DELAY_DAYS}d",
    whole=f"merchant_label_count_{BEFORE_DAYS}d_delay_{BEFORE_DELAY_DAYS}d",
    prior_rate=0.05,
    prior_weight=20.0,
    description="The chance that a transaction at the merchant was a fraud four weeks before.",
)

MERCHANT_NEWLY_RISKY = tuple(
    Ratio(
        numerator=f"merchant_fraud_count_{length}d_delay_{LABEL_DELAY_DAYS}d_smoothed",
        denominator=f"{MERCHANT_CHANCE_BEFORE.part}_smoothed",
        description="How many times as likely a fraud at the merchant is as four weeks before.",
    )
    for length in (3, 7)
)
