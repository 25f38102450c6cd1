"""Names of the columns that row validation adds, declared once: a misspelt name is a Python error.

These columns exist within one run only: in its frames and in its staged files. The columns of the
table `transactions` keep their own names beside them. `jobs/deliveries/reading.py` declares the
columns that reading a source adds (`RAW`, `MALFORMED_RECORD`, `IS_MULTILINE`, `HAS_INVALID_UTF8`).
"""

from __future__ import annotations

# -- the result of validation, kept in the staged frames ------------------------------------------

REASONS = "reasons"  # Reason codes of the row; empty if no rule fails.
ACCEPTED = "accepted"  # Whether the row goes to `transactions` or `labels`.
DROPPED = "dropped"  # Labels only: an identical duplicate, neither accepted nor quarantined.
LABEL_REASONS = "label_reasons"  # Reason codes of the label inside a transaction's row.
LABEL_SOURCE = "label_source"  # The column `source` of the table `labels`.

# -- flags of parsing, read by the row rules ------------------------------------------------------

HAS_VALID_BUSINESS_DATE = "has_valid_business_date"
HAS_INVALID_ATTRIBUTE = "has_invalid_attribute"  # A numeric attribute is not a number.
AMOUNT_IS_NUMBER = "amount_is_number"
AMOUNT_IS_FINITE = "amount_is_finite"
HAS_FOREIGN_CURRENCY = "has_foreign_currency"  # Neither declared nor with a rate.


def presence_flag(name: str) -> str:
    """Return the name of the flag: does the source have a value for this column?"""
    return f"{name}_is_present"


def local_time_flag(name: str) -> str:
    """Return the name of the flag: does the local time exist, or did the clocks skip it?"""
    return f"{name}_local_time_exists"


# -- duplicates -----------------------------------------------------------------------------------

DUPLICATE_KEY = "duplicate_key"  # Text; rows with the same key are duplicates of each other.
CONTENT_HASH = "content_hash"  # Hash of the values that conflicting duplicates differ in.
LABEL_HASH = "label_hash"  # The same for a label inside the row; null if there is none.
PASSES_RULES = "passes_rules"  # Whether no row rule fails.
DUPLICATE_KIND = "duplicate_kind"  # Null for the row to accept, else a kind of duplicate.
