"""Features of a merchant.

Their windows end several days before the transaction, because labels arrive late.

Views over a card at a merchant are in `card.py`.
"""

from __future__ import annotations

from feature_defs.derived import Ratio, SmoothedRate
from feature_defs.feature import MERCHANT
from feature_defs.labels import LABEL_DELAY_DAYS
from feature_defs.language import (
    FeatureView,
    count,
    days,
    fraud_count,
    fraud_rate,
    label_count,
)
from feature_defs.sources import TRANSACTIONS

LABEL_WINDOW_DAYS = (1, 3, 7, 30)
# A compromised terminal is found and replaced in the end, but its mature labels stay in the windows
# for weeks. An earlier window distinguishes a merchant that has just become risky from one that
# already was. Four weeks and ten days were chosen on the nights of the handbook data before
# 2018-07-18.
EARLIER_DAYS, EARLIER_DELAY_DAYS = 10, 28

MERCHANT_RISK = FeatureView(
    entity=MERCHANT,
    source=TRANSACTIONS,
    aggregations=(
        count(days(1, 7, 30, delay=LABEL_DELAY_DAYS)),
        fraud_rate(days(1, 7, 30, delay=LABEL_DELAY_DAYS), empty=0.0),
    ),
    description="Number of the merchant's transactions, and the share that was fraud.",
)

MERCHANT_LABELS = FeatureView(
    entity=MERCHANT,
    source=TRANSACTIONS,
    aggregations=(
        fraud_count(days(*LABEL_WINDOW_DAYS, delay=LABEL_DELAY_DAYS)),
        label_count(days(*LABEL_WINDOW_DAYS, delay=LABEL_DELAY_DAYS)),
        fraud_count(days(EARLIER_DAYS, delay=EARLIER_DELAY_DAYS)),
        label_count(days(EARLIER_DAYS, delay=EARLIER_DELAY_DAYS)),
    ),
    description="Number of the merchant's known frauds, and of its labelled transactions.",
)

# A plain rate treats one fraud in two like ten in twenty. The prior, two transactions at 0.5 %,
# ranks ten in twenty higher, and makes one fraud among many transactions count little.
MERCHANT_SMOOTHED_FRAUD_RATES = tuple(
    SmoothedRate(
        part=f"merchant_fraud_count_{length}d_delay_{LABEL_DELAY_DAYS}d",
        whole=f"merchant_label_count_{length}d_delay_{LABEL_DELAY_DAYS}d",
        prior_rate=0.005,
        prior_weight=2.0,
        description="Probability of fraud at the merchant, estimated from its mature labels.",
    )
    for length in LABEL_WINDOW_DAYS
)

# The prior of twenty transactions has two effects: only several frauds show that a merchant was
# risky before, and a merchant without frauds counts about the same as one without labels.
MERCHANT_EARLIER_FRAUD_RATE = SmoothedRate(
    part=f"merchant_fraud_count_{EARLIER_DAYS}d_delay_{EARLIER_DELAY_DAYS}d",
    whole=f"merchant_label_count_{EARLIER_DAYS}d_delay_{EARLIER_DELAY_DAYS}d",
    prior_rate=0.05,
    prior_weight=20.0,
    description="Probability of fraud at the merchant four weeks before.",
)

MERCHANT_RISK_INCREASES = tuple(
    Ratio(
        numerator=f"merchant_fraud_count_{length}d_delay_{LABEL_DELAY_DAYS}d_smoothed",
        denominator=f"{MERCHANT_EARLIER_FRAUD_RATE.part}_smoothed",
        description="Probability of fraud at the merchant, as a multiple of four weeks before.",
    )
    for length in (3, 7)
)
