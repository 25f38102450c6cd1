"""Features of the transaction itself: its amount, hour of day and day of week.

They need no window and no entity. `point_in_time/compiler.py` has the formula of each. Features of
a card are in `card.py`, those of a merchant in `merchant.py`.
"""

from __future__ import annotations

from feature_defs.attributes import HOME_PLACE, MERCHANT_PLACE, STANDARD_ATTRIBUTES, Attribute
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

TRANSACTION_KILOMETRES_FROM_HOME = Feature(
    name="transaction_kilometres_from_home",
    kind=Kind.DISTANCE_KM,
    description="Great-circle distance between the cardholder's home and the merchant.",
    attributes=tuple(STANDARD_ATTRIBUTES[name].column for name in (*HOME_PLACE, *MERCHANT_PLACE)),
)
# Ids and coordinates are left out: a single value of them says nothing.
MODELLED_ATTRIBUTES = (
    "merchant_category",
    "merchant_country",
    "merchant_city",
    "entry_mode",
    "channel",
    "card_present",
    "original_currency",
    "card_country",
    "ip_country",
    "home_country",
    "cardholder_age",
)


def attribute_feature(attribute: Attribute) -> Feature:
    """Return the feature whose value is an attribute of the transaction."""
    return Feature(
        name=f"transaction_{attribute.name}",
        kind=attribute.kind,
        description=attribute.description,
        measure=attribute.name,
        attributes=(attribute.column,),
    )


ATTRIBUTE_FEATURES = tuple(
    attribute_feature(STANDARD_ATTRIBUTES[name]) for name in MODELLED_ATTRIBUTES
)

EVENT_FEATURES = (
    TRANSACTION_AMOUNT,
    TRANSACTION_HOUR_OF_DAY,
    TRANSACTION_DAY_OF_WEEK,
    *ATTRIBUTE_FEATURES,
    TRANSACTION_KILOMETRES_FROM_HOME,
)
