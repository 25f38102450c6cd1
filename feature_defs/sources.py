"""The source tables of the features: their columns, keys and clocks.

`jobs/lake/tables.py` derives the schemas of the lake from here, so each column is declared once.
"""

from __future__ import annotations

from dataclasses import dataclass

# Digits after the decimal point of an amount. Sums are computed in integer units of
# 10**-MONEY_SCALE, so they do not depend on the order or the partitions of the rows.
MONEY_SCALE = 3
# Digits before the decimal point: every amount is below 10**AMOUNT_DIGITS.
AMOUNT_DIGITS = 15
# Other numbers are summed in integer units of 10**-NUMBER_SCALE. Numbers from 10**NUMBER_DIGITS on,
# NaN and infinity count as missing.
NUMBER_SCALE, NUMBER_DIGITS = 6, 12
MONEY = f"decimal({AMOUNT_DIGITS + MONEY_SCALE},{MONEY_SCALE})"

# Optional column of `transactions`: false for a payment of which only the date is known. A lake
# has it once such a payment was delivered; null means true.
HAS_TIME_OF_DAY = "has_time_of_day"


@dataclass(frozen=True)
class Column:
    """A column of a source; `type` is the name of a Spark SQL type."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True)
class Source:
    """A table; a row is known from the time in its column `clock` (UTC)."""

    name: str
    key: tuple[str, ...]
    clock: str
    columns: tuple[Column, ...]
    # Upper limit for the lookback of a window; it bounds what a night has to read.
    max_lookback_days: int = 90

    def column(self, name: str) -> Column:
        """Return a column by name.

        Raises:
            KeyError: the source does not have this column; the message lists its columns.
        """
        for column in self.columns:
            if column.name == name:
                return column
        allowed = ", ".join(column.name for column in self.columns)
        raise KeyError(f"{self.name} has no column {name!r}; it has: {allowed}")


TRANSACTIONS = Source(
    name="transactions",
    key=("transaction_id",),
    clock="event_time",
    columns=(
        Column("transaction_id", "string", nullable=False),
        Column("event_time", "timestamp", nullable=False),
        Column("business_date", "date", nullable=False),
        Column("ingest_time", "timestamp", nullable=False),
        Column("card_id", "string", nullable=False),
        Column("merchant_id", "string", nullable=False),
        Column("amount", MONEY, nullable=False),
    ),
)

LABELS = Source(
    name="labels",
    key=("transaction_id", "label_time", "source"),
    clock="label_time",
    columns=(
        Column("transaction_id", "string", nullable=False),
        Column("is_fraud", "boolean", nullable=False),
        Column("label_time", "timestamp", nullable=False),
        Column("source", "string", nullable=False),
        Column("ingest_time", "timestamp", nullable=False),
        Column("business_date", "date", nullable=False),
    ),
)


# Columns that identify and describe a transaction in every table derived from `transactions`.
KEYS = ("transaction_id", "event_time", "business_date", "card_id", "merchant_id", "amount")
