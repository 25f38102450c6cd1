"""How usual a payment is for its card: its amount, hour, category, country and entry mode.

These features compare a payment with the card's earlier payments, never with itself. Their window
of 30 days is within the lookback of the other features, so a night reads no more days.
"""

from __future__ import annotations

from feature_defs.feature import CARD, Entity
from feature_defs.language import (
    FeatureView,
    days,
    deviation,
    first_time,
    hour_share,
    quantile_rank,
    same_share,
)
from feature_defs.sources import TRANSACTIONS

HABIT_DAYS = 30

CARD_USUAL_AMOUNT = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(
        deviation("amount", days(HABIT_DAYS)),
        quantile_rank("amount", days(HABIT_DAYS)),
    ),
    description="How unusual the amount is among the card's earlier payments.",
)

CARD_USUAL_HOUR = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=(hour_share(days(HABIT_DAYS)),),
    description="Share of the card's earlier payments within two hours of this hour.",
)

CARD_USUAL_WAY = FeatureView(
    entity=CARD,
    source=TRANSACTIONS,
    aggregations=tuple(
        same_share(attribute, days(HABIT_DAYS))
        for attribute in ("merchant_category", "merchant_country", "entry_mode")
    ),
    description="Share of the card's earlier payments that were of the same kind.",
)

CARD_IN_CATEGORY = Entity("card_in_category", ("card_id", "merchant_category"))
CARD_IN_COUNTRY = Entity("card_in_country", ("card_id", "merchant_country"))

CARD_NEW_CATEGORY, CARD_NEW_COUNTRY = (
    FeatureView(
        entity=entity,
        source=TRANSACTIONS,
        aggregations=(first_time(days(HABIT_DAYS)),),
        description=f"Whether this is the card's first payment in this {what}.",
    )
    for entity, what in ((CARD_IN_CATEGORY, "category"), (CARD_IN_COUNTRY, "country"))
)
