"""The standard attributes of card payments: further columns of `transactions` under agreed names.

A mapping names those that a bank delivers (`[transactions.attributes]`); a bank may add names of
its own. A feature over an attribute is available in the lakes that have its column.

Terms in brackets are those of ISO 8583 (data elements, DE) and of EMV (tags).
"""

from __future__ import annotations

from dataclasses import dataclass

from feature_defs.feature import Kind
from feature_defs.sources import MONEY, Column


@dataclass(frozen=True)
class Attribute:
    """A column that a payment may have."""

    name: str
    kind: Kind
    description: str
    unit: str = ""

    @property
    def type(self) -> str:
        """Return the Spark SQL type of the column when the mapping gives this kind."""
        return {Kind.CATEGORY: "string", Kind.AMOUNT: MONEY}.get(self.kind, "double")

    @property
    def column(self) -> Column:
        """Return the column of `transactions`."""
        return Column(self.name, self.type)


# Written by `ingest` for payments that were converted to the declared currency.
ORIGINAL_AMOUNT, ORIGINAL_CURRENCY = "original_amount", "original_currency"

# Latitude and longitude of the merchant and of the cardholder's home.
MERCHANT_PLACE = ("merchant_latitude", "merchant_longitude")
HOME_PLACE = ("card_latitude", "card_longitude")

_CATEGORY, _NUMBER = Kind.CATEGORY, Kind.NUMBER
_STANDARD = (
    Attribute("merchant_category", _CATEGORY, "What the merchant sells (DE 18, MCC)."),
    Attribute("merchant_country", _CATEGORY, "Country of the merchant (DE 43, EMV 9F1A)."),
    Attribute("merchant_city", _CATEGORY, "City of the merchant (DE 43)."),
    Attribute("merchant_latitude", _NUMBER, "Latitude of the merchant, WGS 84.", "degrees"),
    Attribute("merchant_longitude", _NUMBER, "Longitude of the merchant, WGS 84.", "degrees"),
    Attribute("terminal_id", _CATEGORY, "Terminal at the merchant (DE 41, EMV 9F1C)."),
    Attribute("entry_mode", _CATEGORY, "How the card was read: chip, contactless, … (DE 22)."),
    Attribute("channel", _CATEGORY, "Where the payment was made: shop, online, cash machine."),
    Attribute("card_present", _CATEGORY, "Whether the card was present (DE 22, DE 25)."),
    Attribute(
        ORIGINAL_AMOUNT, Kind.AMOUNT, "Amount before conversion (DE 4).", "original currency"
    ),
    Attribute(ORIGINAL_CURRENCY, _CATEGORY, "Currency before conversion (DE 49, ISO 4217)."),
    Attribute("card_country", _CATEGORY, "Country that issued the card (EMV 5F28)."),
    Attribute("card_latitude", _NUMBER, "Latitude of the cardholder's home, WGS 84.", "degrees"),
    Attribute("card_longitude", _NUMBER, "Longitude of the cardholder's home, WGS 84.", "degrees"),
    Attribute("device_id", _CATEGORY, "Device that made an online payment (EMV 3-D Secure)."),
    Attribute("ip_country", _CATEGORY, "Country of the device's IP address."),
    Attribute("cardholder_age", Kind.AGE_YEARS, "Age of the cardholder.", "years"),
    Attribute("home_country", _CATEGORY, "Country where the cardholder lives."),
    Attribute("account_id", _CATEGORY, "Account that is debited (DE 102)."),
)
STANDARD_ATTRIBUTES = {attribute.name: attribute for attribute in _STANDARD}
