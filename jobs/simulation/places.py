"""Where a payment is made and how the card is read: country, place, entry mode, the card's home.

A quarter of the cards travel: in some weeks they pay abroad, in one of three countries of their
own. So abroad alone is no fraud; a country that the card never saw is odd. Chains have shops
everywhere, so the place belongs to the payment: near the card's home, or where its holder travels.
An online payment has no place.

| cause | place and entry mode |
| --- | --- |
| compromised merchant | as the card's own payments |
| stolen card | half of the incidents abroad, the others in any city; mostly by magnetic stripe |
| card testing | online, most incidents at a merchant abroad |
| takeover | online, half of the payments at merchants abroad |
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.simulation.frauds import CARD_TESTING, STOLEN_CARD, TAKEOVER
from jobs.simulation.payments import DAY_S
from jobs.simulation.randomness import Draws


@dataclass(frozen=True)
class Place:
    """A city; coordinates in degrees (WGS 84)."""

    country: str
    latitude: float
    longitude: float


HOME_CITIES = (
    Place("DE", 52.52, 13.40), Place("DE", 53.55, 9.99), Place("DE", 48.14, 11.58),
    Place("DE", 50.94, 6.96), Place("DE", 50.11, 8.68), Place("DE", 51.34, 12.37),
    Place("DE", 48.78, 9.18), Place("DE", 51.05, 13.74),
)  # fmt: skip
ABROAD = (
    Place("FR", 48.86, 2.35), Place("IT", 41.90, 12.50), Place("ES", 40.42, -3.70),
    Place("AT", 48.21, 16.37), Place("GB", 51.51, -0.13), Place("PL", 52.23, 21.01),
    Place("TR", 41.01, 28.98), Place("US", 40.71, -74.01), Place("TH", 13.76, 100.50),
    Place("BR", -23.55, -46.63), Place("NG", 6.52, 3.38), Place("RO", 44.43, 26.10),
)  # fmt: skip
HOME_COUNTRY = HOME_CITIES[0].country

TRAVELLERS, TRIPS_A_WEEK, DESTINATIONS = 0.25, 0.2, 3
TRIP_DAYS = (2, 6)
# Standard deviation of a place around its city, in degrees: about ten kilometres.
NEARBY = 0.09
# Share of online merchants that are abroad.
MERCHANTS_ABROAD = 0.12
MAGNETIC_STRIPE, STOLEN_STRIPE = 0.02, 0.6
STOLEN_ABROAD, TESTING_ABROAD, TAKEOVER_ABROAD = 0.5, 0.7, 0.5

PLACE_COLUMNS = (
    "entry_mode",
    "merchant_country",
    "merchant_latitude",
    "merchant_longitude",
    "card_latitude",
    "card_longitude",
)


def with_places(payments: DataFrame, draws: Draws) -> DataFrame:
    """Add `PLACE_COLUMNS` to payments with the columns of `PAYMENT_COLUMNS`."""
    online = F.col("channel") == "online"
    return (
        payments.withColumns(_home(draws))
        .withColumns(_country(draws, online))
        .withColumns(
            {
                "entry_mode": _entry_mode(draws, online),
                "merchant_country": _country_of(F.col("abroad")),
                "merchant_latitude": F.when(~online, _coordinate(draws, "latitude")),
                "merchant_longitude": F.when(~online, _coordinate(draws, "longitude")),
            }
        )
    )


def _home(draws: Draws) -> dict[str, Column]:
    """Return where the holder of a card lives."""
    card = F.col("card")
    city = draws.whole("home city", 0, len(HOME_CITIES) - 1, card)
    return {
        f"card_{name}": F.round(
            _of_place([getattr(place, name) for place in HOME_CITIES], city)
            + F.lit(NEARBY) * draws.normal(f"home {name}", card),
            4,
        )
        for name in ("latitude", "longitude")
    }


def _country(draws: Draws, online: Column) -> dict[str, Column]:
    """Return the position in `ABROAD` of the payment's country; null for the home country."""
    payment, cause = F.col("payment"), F.col("cause")
    incident = F.xxhash64("incident_id")
    last = len(ABROAD) - 1
    of_incident = draws.whole("incident abroad", 0, last, incident)
    ordinary = F.when(
        online,
        F.when(
            draws.happens("merchant abroad", MERCHANTS_ABROAD, F.col("merchant")),
            draws.whole("merchant country", 0, last, F.col("merchant")),
        ),
    ).otherwise(_trip(draws))
    stolen = draws.happens("stolen abroad", STOLEN_ABROAD, incident)
    tested = draws.happens("tested abroad", TESTING_ABROAD, incident)
    taken = draws.happens("taken abroad", TAKEOVER_ABROAD, payment)
    abroad = (
        F.when(cause == STOLEN_CARD, F.when(stolen, of_incident))
        .when(cause == CARD_TESTING, F.when(tested, of_incident))
        .when(cause == TAKEOVER, F.when(taken, draws.whole("taken to", 0, last, payment)))
        .otherwise(ordinary)
    )
    return {"abroad": abroad}


def _trip(draws: Draws) -> Column:
    """Return the country of the trip that the holder is on; null at home."""
    card, day = F.col("card"), F.floor(F.col("second") / F.lit(DAY_S))
    week = F.floor(day / 7)
    travels = draws.happens("traveller", TRAVELLERS, card) & draws.happens(
        "trip", TRIPS_A_WEEK, card, week
    )
    num_days = draws.whole("trip days", *TRIP_DAYS, card, week)
    destination = draws.whole("destination", 0, DESTINATIONS - 1, card, week)
    country = draws.whole("country", 0, len(ABROAD) - 1, card, destination)
    return F.when(travels & (day - week * 7 < num_days), country)


def _coordinate(draws: Draws, name: str) -> Column:
    """Return the latitude or longitude of a payment in a shop."""
    abroad = _of_place([getattr(place, name) for place in ABROAD], F.col("abroad"))
    # A thief at home is in a city of his own choice.
    thief = draws.whole("thief's city", 0, len(HOME_CITIES) - 1, F.xxhash64("incident_id"))
    home = F.when(
        F.col("cause") == STOLEN_CARD, _of_place([getattr(p, name) for p in HOME_CITIES], thief)
    ).otherwise(F.col(f"card_{name}"))
    offset = F.lit(NEARBY) * draws.normal(f"place {name}", F.col("payment"))
    return F.round(F.coalesce(abroad, home) + offset, 4)


def _entry_mode(draws: Draws, online: Column) -> Column:
    payment = F.col("payment")
    stolen = (F.col("cause") == STOLEN_CARD) & draws.happens("stripe", STOLEN_STRIPE, payment)
    worn = draws.happens("worn chip", MAGNETIC_STRIPE, payment)
    is_stripe = F.coalesce(stolen, F.lit(False)) | worn
    return (
        F.when(online, F.lit("ecommerce"))
        .when(is_stripe, F.lit("magnetic_stripe"))
        .otherwise(F.col("channel"))
    )


def _country_of(abroad: Column) -> Column:
    countries = F.array(*(F.lit(place.country) for place in ABROAD))
    return F.coalesce(F.get(countries, abroad), F.lit(HOME_COUNTRY))


def _of_place(values: list[float], position: Column) -> Column:
    return F.get(F.array(*(F.lit(value) for value in values)), position)
