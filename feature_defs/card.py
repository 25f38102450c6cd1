"""What we know about a card when it pays."""

from __future__ import annotations

from feature_defs.definitions import FeatureView, count, days, mean, seconds_since_last
from feature_defs.derived import Ratio
from feature_defs.feature import CARD
from feature_defs.sources import TRANSACTIONS

CARD_SPEND = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(count(days(1, 7, 30)), mean("amount", days(1, 7, 30))),
    description="How often and how much the card spent up to this transaction, included.",
)

CARD_RHYTHM = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(seconds_since_last(days(30)),),
    description="How long the card had been quiet.",
)

AMOUNT_AGAINST_USUAL = Ratio(
    numerator="transaction_amount",
    denominator="card_amount_mean_30d",
    description="How many times the card's mean amount this transaction paid.",
)
