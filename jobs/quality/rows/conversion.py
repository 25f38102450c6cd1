"""Convert amounts into the declared currency; amounts of two currencies are never added up."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_defs.attributes import ORIGINAL_AMOUNT, ORIGINAL_CURRENCY
from feature_defs.sources import MONEY, MONEY_SCALE
from jobs.deliveries.currencies import MAX_RATE, RATE_SCALE, periods_of
from jobs.deliveries.mapping import Mapping
from jobs.quality.rows.columns import HAS_FOREIGN_CURRENCY
from jobs.quality.rows.numbers import MAX_AMOUNT
from jobs.quality.rows.parsing import raw_column, trimmed

_CODE, _RATE = "currency_code", "currency_rate"
_RATE_TYPE = f"decimal({MAX_RATE.adjusted() + 1 + RATE_SCALE},{RATE_SCALE})"


def in_declared_currency(parsed: DataFrame, mapping: Mapping) -> DataFrame:
    """Convert `amount` where the mapping has a rate; keep the original amount and currency.

    Sets `HAS_FOREIGN_CURRENCY` for a row whose currency is missing, or is not the declared one and
    has no rate on the day of the event (UTC). Without a currency column nothing changes.
    """
    name = mapping.transactions.columns.currency
    if name is None:
        return parsed
    code = F.upper(trimmed(raw_column(name).cast("string")))
    # A number loses leading zeros: 36 is 036, the Australian dollar of ISO 8583.
    is_number = code.rlike("^[0-9]{1,3}$")
    code = F.when(is_number, F.lpad(code, 3, "0")).otherwise(code)
    rows = parsed.withColumn(_CODE, code).withColumn(_RATE, _rate(mapping))
    amount = F.col("amount")
    converted = F.round(amount * F.col(_RATE), MONEY_SCALE).try_cast(MONEY)
    in_range = F.when(F.abs(converted) <= MAX_AMOUNT, converted)
    is_declared = F.coalesce(F.col(_CODE) == mapping.currency, F.lit(False))
    columns = {
        HAS_FOREIGN_CURRENCY: ~is_declared & F.col(_RATE).isNull(),
        "amount": F.when(is_declared | F.col(_RATE).isNull(), amount).otherwise(in_range),
    }
    if mapping.currencies:
        columns |= {ORIGINAL_AMOUNT: amount, ORIGINAL_CURRENCY: F.col(_CODE)}
    return rows.withColumns(columns).drop(_CODE, _RATE)


def _rate(mapping: Mapping) -> Column:
    """Return the rate of the row's currency on the day of its event; null without one."""
    day = F.to_date("event_time")
    rate: Column = F.lit(None).cast(_RATE_TYPE)
    for code, rates in mapping.currencies.items():
        # The oldest first: each newer rate goes before it.
        for since, value in reversed(periods_of(rates)):
            applies = F.col(_CODE) == code
            if since is not None:
                applies = applies & (day >= F.lit(since))
            rate = F.when(applies, F.lit(value).cast(_RATE_TYPE)).otherwise(rate)
    return rate
