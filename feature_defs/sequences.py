"""What a transaction itself says, and the event sequence that models read."""

from __future__ import annotations

from feature_defs.card import CARD_RHYTHM, CARD_SPEND
from feature_defs.definitions import SequenceView
from feature_defs.feature import CARD, Feature, Kind
from feature_defs.merchant import MERCHANT_RISK

TRANSACTION_AMOUNT = Feature(
    name="transaction_amount",
    kind=Kind.AMOUNT,
    description="What this transaction paid.",
    measure="amount",
)
TRANSACTION_HOUR_OF_DAY = Feature(
    name="transaction_hour_of_day",
    kind=Kind.HOUR_OF_DAY,
    description="Hours since midnight UTC, with minutes and seconds as a fraction.",
    measure="event_time",
)
TRANSACTION_DAY_OF_WEEK = Feature(
    name="transaction_day_of_week",
    kind=Kind.DAY_OF_WEEK,
    description="0 is Monday, 6 is Sunday, UTC.",
    measure="event_time",
)

EVENT_FEATURES = (TRANSACTION_AMOUNT, TRANSACTION_HOUR_OF_DAY, TRANSACTION_DAY_OF_WEEK)

CARD_EVENTS = SequenceView(
    entity=CARD,
    period_days=28,
    max_events=4096,
    warm_up_events=256,
    columns=tuple(
        feature.name
        for feature in (
            *EVENT_FEATURES,
            *CARD_SPEND.features,
            *CARD_RHYTHM.features,
            *MERCHANT_RISK.features,
        )
    ),
)
