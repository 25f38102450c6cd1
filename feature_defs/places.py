"""Distances between the places of a card's payments.

The places are those of the merchants (`attributes.MERCHANT_PLACE`). The distance from the
cardholder's home is a feature of the transaction itself (`transaction.py`).
"""

from __future__ import annotations

from feature_defs.feature import CARD
from feature_defs.language import FeatureView, days, kilometres_since_last, speed_since_last
from feature_defs.sources import TRANSACTIONS

CARD_TRAVEL = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(kilometres_since_last(days(7)), speed_since_last(days(7))),
    description="How far, and how fast, the card travelled since its previous payment.",
)
