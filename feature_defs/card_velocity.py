"""Features of the last minutes and hours: bursts of payments by a card, and at a merchant.

A card test makes many small payments within minutes; `card_count_1d` hardly moves. A stolen list of
cards is tried at one merchant, which then sees many cards within minutes.
"""

from __future__ import annotations

from feature_defs.derived import Ratio
from feature_defs.feature import CARD, MERCHANT
from feature_defs.language import FeatureView, count, distinct, hours, minutes, total
from feature_defs.sources import TRANSACTIONS

CARD_VELOCITY = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(count((*minutes(10), *hours(1, 6))), total("amount", hours(1, 6))),
    description="How often and how much the card spent in the last minutes and hours.",
)

# The card of this transaction is one of them.
MERCHANT_CARDS = FeatureView(
    entity=MERCHANT,
    source=TRANSACTIONS,
    aggregations=(distinct("card_id", minutes(10)), count((*minutes(10), *hours(1)))),
    description="Cards and payments at the merchant in the last minutes, this one included.",
)

HOUR_AGAINST_MONTH = Ratio(
    numerator="card_count_1h",
    denominator="card_count_30d",
    description="Share of the card's payments of a month that were in the last hour.",
)
