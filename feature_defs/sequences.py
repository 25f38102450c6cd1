"""What a transaction itself says, and the event sequence that models read."""

from __future__ import annotations

from feature_defs.definitions import SequenceView
from feature_defs.feature import CARD, Feature, Kind

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
    # Named one by one: what a model reads does not grow with the catalogue.
    columns=(
        "transaction_amount",
        "transaction_hour_of_day",
        "transaction_day_of_week",
        "card_count_1d",
        "card_count_7d",
        "card_count_30d",
        "card_amount_mean_1d",
        "card_amount_mean_7d",
        "card_amount_mean_30d",
        "card_seconds_since_last_30d",
        "merchant_count_1d_delay_7d",
        "merchant_count_7d_delay_7d",
        "merchant_count_30d_delay_7d",
        "merchant_fraud_rate_1d_delay_7d",
        "merchant_fraud_rate_7d_delay_7d",
        "merchant_fraud_rate_30d_delay_7d",
    ),
)
