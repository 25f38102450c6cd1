"""Features of the transaction itself: its amount, hour of day and day of week.

They need no window and no entity. `point_in_time/compiler.py` has the formula of each. Features of
a card are in `card.py`, those of a merchant in `merchant.py`.
"""

from __future__ import annotations

from feature_defs.feature import Feature, Kind

TRANSACTION_AMOUNT = Feature(
    name="transaction_amount",
    kind=Kind.AMOUNT,
    description="Amount of this transaction.",
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
    description="Day of the week in UTC: 0 is Monday, 6 is Sunday.",
    measure="event_time",
)

EVENT_FEATURES = (TRANSACTION_AMOUNT, TRANSACTION_HOUR_OF_DAY, TRANSACTION_DAY_OF_WEEK)
