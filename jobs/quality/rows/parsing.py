"""Parse ids and flags with pure column functions that never abort the job.

Spark 4 raises on an invalid cast, so every cast here is a `try_cast`. A value that becomes null
is quarantined with a reason code (`jobs/quality/rows/rules.py`). Times are parsed in `times.py`,
amounts and other numbers in `numbers.py`.
"""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.deliveries.label_mapping import LabelValues
from jobs.deliveries.reading import RAW

_NOT_BLANK = r"[^\s\p{Z}]"
# White space of Unicode: what `_NOT_BLANK` does not match.
BLANKS = (
    "\t\n\x0b\f\r \xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def raw_column(name: str) -> Column:
    """Return a source column; `RAW` is the struct of all of them."""
    return F.col(RAW).getField(name)


def trimmed(text: Column) -> Column:
    """Return a text without white space at its ends."""
    return F.trim(text, F.lit(BLANKS))


def is_present(value: Column, type_: T.DataType) -> Column:
    """Return whether the source has a value: neither null nor text of white space only."""
    if isinstance(type_, T.StringType):
        return F.coalesce(value.rlike(_NOT_BLANK), F.lit(False))
    return value.isNotNull()


def parse_id(value: Column, type_: T.DataType) -> Column:
    """Return an id as text without blanks at its ends; null if the source has none.

    A source of fixed width pads its ids. Nothing else is changed: neither case nor leading zeros.
    """
    text = trimmed(value) if isinstance(type_, T.StringType) else value.cast("string")
    return F.when(is_present(value, type_), text)


def parse_flag(value: Column, type_: T.DataType, values: LabelValues | None = None) -> Column:
    """Parse a yes or no; null if it is neither.

    Args:
        value: a boolean, 0 or 1, or text.
        type_: its Spark type.
        values: the texts that mean yes and no; without them 0 and 1, or a word that Spark casts.
    """
    if values is not None:
        text = parse_id(value, type_)
        fraud, genuine = ([word.strip() for word in w] for w in (values.fraud, values.genuine))
        return F.when(text.isin(*fraud), True).when(text.isin(*genuine), False)
    if isinstance(type_, T.BooleanType):
        return value
    if isinstance(type_, T.StringType):
        text = trimmed(value)
        number = F.when(text.rlike(r"^[01]([.]0*)?$"), text.startswith("1"))
        return F.coalesce(text.try_cast("boolean"), number)
    return F.when(value.isin(0, 1), value == 1)


def is_card_number(text: Column) -> Column:
    """Return whether a text is 13 to 19 digits with a valid Luhn check digit.

    Characters that are neither letters nor digits are ignored.
    """
    digits = F.regexp_replace(text, r"[^\p{L}\p{Nd}]", "")
    has_length = digits.rlike("^[0-9]{13,19}$")
    return F.coalesce(has_length & F.call_function("luhn_check", digits), F.lit(False))
