"""The tables that features are made from: columns, keys and clocks.

The lake derives its schemas from here (`jobs/lake/tables.py`), so a column is named once.
"""

from __future__ import annotations

from dataclasses import dataclass

# Digits after the decimal point of every amount. Sums are taken in integer units of
# 10**-MONEY_SCALE, so neither order nor partitioning can change one.
MONEY_SCALE = 3
# Digits before it: every amount lies below 10**AMOUNT_DIGITS.
AMOUNT_DIGITS = 15
MONEY = f"decimal({AMOUNT_DIGITS + MONEY_SCALE},{MONEY_SCALE})"


@dataclass(frozen=True)
class Column:
    """A column of a source: `type` is a Spark SQL type name."""

    name: str
    type: str
    nullable: bool = True


@dataclass(frozen=True)
class Source:
    """A table whose rows become known at the column `clock` (UTC)."""

    name: str
    key: tuple[str, ...]
    clock: str
    columns: tuple[Column, ...]
    # No window may need more days: the cost of a night follows from it.
    max_lookback_days: int = 90

    def column(self, name: str) -> Column:
        """Look a column up.

        Raises:
            KeyError: the source has no such column; the message lists those it has.
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


# What identifies and describes a transaction wherever it is carried along.
KEYS = ("transaction_id", "event_time", "business_date", "card_id", "merchant_id", "amount")
