"""Cards and their habits: what is usual for this card and would be odd for another."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.simulation.randomness import Draws

MEDIAN_AMOUNT = 28.0
MEDIAN_DAILY_PAYMENTS = 1.6
MOST_DAILY_PAYMENTS = 5.0
# Mean over cards and days with pay days and weekends; what the merchants can expect.
MEAN_DAILY_PAYMENTS = 1.9
NUM_FAVOURITES = 8
# Days after pay day during which a card spends more.
PAY_DAYS = 4


def with_habits(frame: DataFrame, draws: Draws) -> DataFrame:
    """Add a card's habits to rows that have its number in `card`."""
    card = F.col("card")
    rate = F.lit(MEDIAN_DAILY_PAYMENTS) * F.exp(F.lit(0.5) * draws.normal("activity", card))
    # Most people shop around noon or after work; few before eight.
    hour = F.lit(14.0) + F.lit(2.8) * draws.normal("hour", card)
    return frame.withColumns(
        {
            "typical_amount": F.lit(MEDIAN_AMOUNT)
            * F.exp(F.lit(0.55) * draws.normal("typical amount", card)),
            "amount_spread": draws.between("amount spread", 0.25, 0.6, card),
            "daily_rate": F.least(F.greatest(rate, F.lit(0.3)), F.lit(MOST_DAILY_PAYMENTS)),
            "preferred_hour": F.least(F.greatest(hour, F.lit(8.0)), F.lit(20.0)),
            "hour_spread": draws.between("hour spread", 1.0, 2.5, card),
            "evening_share": draws.between("evening share", 0.1, 0.4, card),
            "weekend_factor": F.exp(F.lit(0.3) * draws.normal("weekend", card)),
            "pay_day": draws.whole("pay day", 1, 28, card),
        }
    )


def is_weekend(first_day: date, day: Column) -> Column:
    """Whether the day with this number (from 0) is a Saturday or Sunday."""
    return (day + F.lit(first_day.weekday())) % 7 >= 5


def after_pay_day(first_day: date, day: Column, pay_day: Column) -> Column:
    """Whether a day is the pay day or one of the next few."""
    day_of_month = F.dayofmonth(F.date_add(F.lit(first_day), day.cast("int")))
    return F.pmod(day_of_month - pay_day, F.lit(30)) < PAY_DAYS


def ordinary_hour(draws: Draws, payment: Column) -> Column:
    """Hour at which a card likes to pay: around its own hour, sometimes in the evening."""
    evening = draws.uniform("evening", payment) < F.col("evening_share")
    later = F.when(evening, F.lit(4.5)).otherwise(F.lit(0.0))
    wished = F.col("preferred_hour") + later
    return F.pmod(wished + F.col("hour_spread") * draws.normal("time", payment), F.lit(24.0))


def ordinary_amount(draws: Draws, payment: Column) -> Column:
    """An amount that is ordinary for a card, before the merchant's category is considered."""
    return F.col("typical_amount") * F.exp(F.col("amount_spread") * draws.normal("amount", payment))


def odd_hour(draws: Draws, payment: Column) -> Column:
    """An hour at which this card sleeps: half a day away from its own."""
    away = F.col("preferred_hour") + F.lit(12.5) + draws.normal("odd hour", payment)
    return F.pmod(away, F.lit(24.0))


def as_money(amount: Column) -> Column:
    """Cents, at least half a euro."""
    return F.greatest(F.round(amount, 2), F.lit(0.5)).cast("decimal(18,2)")


def card_id(card: Column) -> Column:
    """How a card is called outside the simulation; never like a card number.

    Nine digits at most (there are at most `MOST_CARDS`), and a word before them.
    """
    return F.concat(F.lit("card-"), F.lpad(card.cast("string"), 9, "0"))
