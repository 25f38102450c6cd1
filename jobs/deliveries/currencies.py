"""The section `[currencies]` of a mapping: rates into the declared currency.

    [currencies]
    USD = 0.92
    JPY = { "2024-01-01" = 0.0064, "2024-02-01" = 0.0066 }

A rate is what one unit is worth in the declared currency. A table has the rates by the first day
(UTC) on which each is used; a payment before the first day has no rate.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

# A code of ISO 4217: three letters, or the three digits of ISO 8583.
CurrencyCode = Annotated[str, Field(pattern=r"^([A-Z]{3}|[0-9]{3})$")]
MAX_RATE = Decimal(1_000_000)
# Decimals of a rate that are kept.
RATE_SCALE = 12


def _exact(value: Any) -> Any:
    """Return a number of a TOML or JSON file as a decimal with the digits that were written."""
    return str(value) if isinstance(value, float) else value


Rate = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(gt=0, le=MAX_RATE, max_digits=19, decimal_places=RATE_SCALE),
]
RatesByDay = Annotated[dict[date, Rate], Field(min_length=1)]
Currencies = dict[CurrencyCode, Rate | RatesByDay]


def periods_of(rates: Rate | RatesByDay) -> list[tuple[date | None, Rate]]:
    """Return the rates of a currency, the newest first, each with the first day of its use."""
    if isinstance(rates, dict):
        return sorted(rates.items(), reverse=True)
    return [(None, rates)]
