"""Cards and their habits: typical amounts, hours and rates, which differ from card to card."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.simulation.randomness import Draws

MEDIAN_AMOUNT = 28.0
MEDIAN_DAILY_PAYMENTS = 1.6
MOST_DAILY_PAYMENTS = 5.0
# Mean over cards and days, including the effect of pay days and weekends.
MEAN_DAILY_PAYMENTS = 1.9
NUM_FAVOURITES = 8
# Number of days, from the pay day on, during which a card spends more.
PAY_DAYS = 4


def with_habits(frame: DataFrame, draws: Draws) -> DataFrame:
    """Add the habits of a card to rows with its number in the column `card`."""
    card = F.col("card")
    rate = F.lit(MEDIAN_DAILY_PAYMENTS) * F.exp(F.lit(0.5) * draws.normal("activity", card))
    # Most payments are around noon or after work; few are before 08:00.
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
    """Return whether the day with this number (from 0) is a Saturday or Sunday."""
    return (day + F.lit(first_day.weekday())) % 7 >= 5


def after_pay_day(first_day: date, day: Column, pay_day: Column) -> Column:
    """Return whether a day is one of the `PAY_DAYS` days that start with the pay day."""
    day_of_month = F.dayofmonth(F.date_add(F.lit(first_day), day.cast("int")))
    return F.pmod(day_of_month - pay_day, F.lit(30)) < PAY_DAYS


def ordinary_hour(draws: Draws, payment: Column) -> Column:
    """Draw the hour of an ordinary payment: around the card's preferred hour, or in the evening."""
    evening = draws.uniform("evening", payment) < F.col("evening_share")
    later = F.when(evening, F.lit(4.5)).otherwise(F.lit(0.0))
    center = F.col("preferred_hour") + later
    return F.pmod(center + F.col("hour_spread") * draws.normal("time", payment), F.lit(24.0))


def ordinary_amount(draws: Draws, payment: Column) -> Column:
    """Draw an ordinary amount of a card, before the factor of the merchant's category."""
    return F.col("typical_amount") * F.exp(F.col("amount_spread") * draws.normal("amount", payment))


def odd_hour(draws: Draws, payment: Column) -> Column:
    """Draw an unusual hour: about half a day away from the card's preferred hour."""
    away = F.col("preferred_hour") + F.lit(12.5) + draws.normal("odd hour", payment)
    return F.pmod(away, F.lit(24.0))


def as_money(amount: Column) -> Column:
    """Round an amount to cents, with a minimum of 0.50."""
    return F.greatest(F.round(amount, 2), F.lit(0.5)).cast("decimal(18,2)")


def card_id(card: Column) -> Column:
    """Return the card id in deliveries: `card-` and nine digits, which no card number resembles.

    Nine digits suffice for `MOST_CARDS` cards.
    """
    return F.concat(F.lit("card-"), F.lpad(card.cast("string"), 9, "0"))
