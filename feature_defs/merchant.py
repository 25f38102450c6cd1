"""What we know about a merchant: delayed, because labels come late."""

from __future__ import annotations

from feature_defs.definitions import FeatureView, count, days, fraud_rate
from feature_defs.feature import MERCHANT
from feature_defs.sources import TRANSACTIONS

# Labels of the last week are rarely complete, so the windows end a week before the transaction.
LABEL_DELAY_DAYS = 7

MERCHANT_RISK = FeatureView(
    entity=MERCHANT,
    source=TRANSACTIONS,
    aggregations=(
        count(days(1, 7, 30, delay=LABEL_DELAY_DAYS)),
        fraud_rate(days(1, 7, 30, delay=LABEL_DELAY_DAYS), empty=0.0),
    ),
    description="How busy the merchant was, and how much of that turned out to be fraud.",
)
