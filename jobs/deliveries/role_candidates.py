"""Which column of a source may be the time, the card, the amount, …: by its name and its values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feature_defs.attributes import STANDARD_ATTRIBUTES
from jobs.deliveries.column_profile import ColumnProfile

# Values of a fraud flag, in lower case.
FRAUD_WORDS = ("1", "1.0", "true", "t", "y", "yes", "fraud", "confirmed", "f1", "chargeback")
GENUINE_WORDS = ("0", "0.0", "false", "n", "no", "genuine", "cleared", "legit", "ok", "reversed")
MAX_CATEGORIES = 5_000


@dataclass(frozen=True)
class Role:
    """A column that a mapping needs, and how to recognise it."""

    name: str
    exact: tuple[str, ...]
    """Names in lower case, without anything but letters and digits."""
    parts: tuple[str, ...]
    """Words that are part of such names."""
    fits: Callable[[ColumnProfile], bool]
    """Whether the values can be of this role."""


def _is_time(column: ColumnProfile) -> bool:
    return bool(column.time_notations)


def _is_amount(column: ColumnProfile) -> bool:
    return bool(column.number_notations)


def _repeats(column: ColumnProfile) -> bool:
    return bool(column.values) and len(column.counts) < column.num_rows and not column.has_decimals


def _is_currency(column: ColumnProfile) -> bool:
    return bool(column.values) and all(
        re.fullmatch(r"\s*([A-Za-z]{3}|\d{3})\s*", value) for value in column.counts
    )


def is_flag(column: ColumnProfile) -> bool:
    """Return whether a column has few values, all of them words of yes and no."""
    words = {value.strip().lower() for value in column.counts}
    return bool(words) and words <= {*FRAUD_WORDS, *GENUINE_WORDS}


ROLES = (
    Role(
        "transaction_id",
        ("transactionid", "txid", "txnid", "transid", "transnum", "id", "tid"),
        ("trans", "tx", "txn", "payment", "reference", "uuid", "id"),
        lambda column: column.is_unique and not column.is_time,
    ),
    Role(
        "event_time",
        ("eventtime", "timestamp", "txdatetime", "transdatetranstime", "datetime", "time", "at"),
        ("time", "date", "stamp", "when", "booked", "posted", "created"),
        _is_time,
    ),
    Role(
        "card_id",
        ("cardid", "card", "ccnum", "pan", "cardnumber", "customerid", "cardno"),
        ("card", "cc", "pan", "customer", "client"),
        _repeats,
    ),
    Role(
        "merchant_id",
        ("merchantid", "merchant", "shop", "terminalid", "store", "acceptorid", "payee"),
        ("merchant", "shop", "terminal", "store", "acceptor", "payee", "vendor"),
        _repeats,
    ),
    Role(
        "amount",
        ("amount", "amt", "txamount", "value", "transactionamount"),
        ("amount", "amt", "value", "sum", "price", "betrag"),
        _is_amount,
    ),
)
CURRENCY = Role("currency", ("currency", "ccy", "cur"), ("currency", "ccy", "curr"), _is_currency)
FRAUD = Role(
    "is_fraud", ("isfraud", "fraud", "txfraud", "label"), ("fraud", "label", "chargeback"), is_flag
)
LABEL_TIME = Role(
    "label_time", ("labeltime", "reportedat"), ("label", "report", "confirm"), _is_time
)

# Words of a column's name, by the standard attribute that it may be.
_ATTRIBUTE_WORDS = {
    "merchant_category": ("category", "mcc"),
    "merchant_latitude": ("merch lat", "merchant lat", "merchant latitude"),
    "merchant_longitude": ("merch long", "merch lon", "merchant long", "merchant longitude"),
    "card_latitude": ("lat", "latitude", "card lat", "home lat"),
    "card_longitude": ("long", "lon", "lng", "longitude", "card long", "home long"),
    "merchant_country": ("merchant country", "country"),
    "merchant_city": ("merchant city",),
    "terminal_id": ("terminal", "terminal id"),
    "entry_mode": ("entry mode", "pos entry mode"),
    "channel": ("channel",),
    "card_present": ("card present",),
    "card_country": ("card country", "issuer country"),
    "device_id": ("device", "device id"),
    "ip_country": ("ip country",),
    "cardholder_age": ("age", "customer age"),
    "home_country": ("home country",),
    "account_id": ("account", "account id", "iban"),
}


def candidates(role: Role, columns: Sequence[ColumnProfile]) -> list[ColumnProfile]:
    """Return the columns whose values fit a role, the likeliest by their name first.

    A column whose name says nothing of the role is not among them.
    """
    scored = [(_score(role, column), column) for column in columns if role.fits(column)]
    return [c for score, c in sorted(scored, key=lambda pair: -pair[0]) if score]


def _score(role: Role, column: ColumnProfile) -> int:
    words = _words(column.name)
    name = "".join(words)
    if name in role.exact:
        # The earlier names say more.
        return 100 - role.exact.index(name)
    return sum(1 for part in role.parts if part in words) * 10 + sum(
        1 for part in role.parts if part in name
    )


def says_what_is_fraud(column: ColumnProfile) -> bool:
    """Return whether a column's name speaks of labels: no model may read it."""
    return bool({"fraud", "label", "chargeback"} & set(_words(column.name)))


def standard_attribute(column: ColumnProfile) -> str | None:
    """Return the standard attribute that a column's name stands for; None if there is none."""
    name = " ".join(_words(column.name))
    plain = name.replace(" ", "_")
    if plain in STANDARD_ATTRIBUTES:
        return plain
    return next((a for a, names in _ATTRIBUTE_WORDS.items() if name in names), None)


def _words(name: str) -> list[str]:
    """Return the words of a column's name in lower case.

    >>> _words("TX_DateTime2"), _words("merchLat")
    (['tx', 'date', 'time2'], ['merch', 'lat'])
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]
