"""Ordinary payments of card holders, and cloned payments at compromised merchants.

A day has eight moments at which a card can pay. The probability follows from the card's habits, the
weekend and the pay day. A payment goes to one of the card's favourite merchants or, less often, to
any other merchant.

A compromised merchant's terminal copies cards for two to three weeks. On the next day the clone of
a card is used there again. Hour and amount are ordinary for the card. Only the fraud history of the
merchant identifies such a payment.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.simulation.cards import (
    MEAN_DAILY_PAYMENTS,
    NUM_FAVOURITES,
    after_pay_day,
    as_money,
    is_weekend,
    ordinary_amount,
    ordinary_hour,
    with_habits,
)
from jobs.simulation.merchants import (
    CATEGORIES,
    Merchants,
    by_category,
    opening_second,
    ordinary_category,
)
from jobs.simulation.plan import SimulationPlan
from jobs.simulation.randomness import Draws

DAY_S = 86_400
MOMENTS = 8
FAVOURITE_SHARE = 0.85
# Upper limit of the probability per moment; higher rates would need more moments than a day has.
MOST_PROBABLE = 0.95

COMPROMISED_MERCHANT = "compromised_merchant"
COMPROMISED_DAYS = (14, 21)
# An incident starts in the first days of its week and lasts at most this many weeks longer.
START_DAYS = 3
WEEKS_BACK = (START_DAYS + COMPROMISED_DAYS[1]) // 7
# Fraud volume stays low: about one cloned payment per day at a merchant of any size, within these
# shares of its payments.
CLONES_A_DAY = 1.0
CLONED_SHARES = (0.08, 0.5)

# Columns of all kinds of payments; `second` counts from the first day, 00:00 UTC.
PAYMENT_COLUMNS = (
    "transaction_id",
    "payment",
    "card",
    "merchant",
    "category",
    "second",
    "amount",
    "channel",
    "cause",
    "incident_id",
)
# A task of this many card-days takes a few seconds and fits into the memory of any executor.
CARD_DAYS_PER_TASK = 2_000_000


def ordinary_payments(spark: SparkSession, plan: SimulationPlan) -> DataFrame:
    """Return the payments of card holders, and the cloned payments at compromised merchants."""
    draws = Draws(plan.seed)
    paid = _with_time_and_amount(_with_merchant(_moments(spark, plan, draws), plan, draws), draws)
    return _with_clones(paid, plan, draws).select(*PAYMENT_COLUMNS)


def _moments(spark: SparkSession, plan: SimulationPlan, draws: Draws) -> DataFrame:
    """Return one row per payment with card, habits and day; `payment` is the key of later draws."""
    num_rows = plan.num_cards * plan.num_days
    slices = max(spark.sparkContext.defaultParallelism, num_rows // CARD_DAYS_PER_TASK)
    card_days = spark.range(0, num_rows, 1, slices).select(
        F.expr(f"id % {plan.num_cards}").alias("card"),
        F.expr(f"id div {plan.num_cards}").alias("day"),
    )
    day = F.col("day")
    weekend = F.when(is_weekend(plan.first_day, day), F.col("weekend_factor")).otherwise(1.0)
    is_after_pay_day = after_pay_day(plan.first_day, day, F.col("pay_day"))
    rate = (
        F.col("daily_rate") * weekend * F.when(is_after_pay_day, F.lit(1.3)).otherwise(F.lit(1.0))
    )
    moments = F.array(*(F.lit(moment) for moment in range(MOMENTS)))
    keys = (F.col("card"), day, F.col("moment"))
    return (
        with_habits(card_days, draws)
        .withColumn("probability", F.least(rate / F.lit(MOMENTS), F.lit(MOST_PROBABLE)))
        .withColumn("moment", F.explode(moments))
        .filter(draws.uniform("pays", *keys) < F.col("probability"))
        .withColumn("payment", draws.key("payment", *keys))
    )


def _with_merchant(frame: DataFrame, plan: SimulationPlan, draws: Draws) -> DataFrame:
    """Choose the merchant: a favourite of the card, the first ones most often, or any other."""
    payment = F.col("payment")
    favourite = F.floor(
        F.lit(NUM_FAVOURITES) * F.pow(draws.uniform("favourite", payment), F.lit(1.8))
    )
    # Both cases use the same two draws; their key is the card's favourite or this payment.
    about = F.when(
        draws.happens("is favourite", FAVOURITE_SHARE, payment),
        draws.key("habit", F.col("card"), favourite),
    ).otherwise(payment)
    category = ordinary_category(draws.uniform("category", F.col("about")))
    merchant = Merchants(plan).popular(F.col("category"), draws.uniform("merchant", F.col("about")))
    return (
        frame.withColumn("about", about)
        .withColumn("category", category)
        .withColumn("merchant", merchant)
    )


def _with_time_and_amount(frame: DataFrame, draws: Draws) -> DataFrame:
    payment, category = F.col("payment"), F.col("category")
    moved = draws.uniform("moved into opening hours", payment)
    factor = by_category([c.amount_factor for c in CATEGORIES], category)
    return (
        frame.withColumn("hour", ordinary_hour(draws, payment))
        .withColumn("second", F.col("day") * DAY_S + opening_second(category, F.col("hour"), moved))
        .withColumn("amount", ordinary_amount(draws, payment) * factor)
        .withColumn("channel", channel(draws, payment, category, F.col("amount")))
    )


def channel(draws: Draws, payment: Column, category: Column, amount: Column) -> Column:
    """Draw the channel of an ordinary payment; payments of 50 and more are not contactless."""
    online = by_category([c.online_share for c in CATEGORIES], category)
    contactless = (amount < 50) & draws.happens("contactless", 0.8, payment)
    return (
        F.when(draws.uniform("online", payment) < online, F.lit("online"))
        .when(contactless, F.lit("contactless"))
        .otherwise(F.lit("chip"))
    )


def _with_clones(frame: DataFrame, plan: SimulationPlan, draws: Draws) -> DataFrame:
    """Add the cloned payments, and set the id and the rounded amount of every payment."""
    card, category, original = F.col("card"), F.col("category"), F.col("original")
    incident, cloned = F.col("incident"), F.col("is_clone")
    in_all = plan.num_cards * MEAN_DAILY_PAYMENTS
    traffic = Merchants(plan).payments_a_day(F.col("merchant"), category, in_all)
    low, high = CLONED_SHARES
    share = F.least(F.greatest(F.lit(CLONES_A_DAY) / traffic, F.lit(low)), F.lit(high))
    copied = incident.isNotNull() & (draws.uniform("cloned", F.col("payment")) < share)
    one, two = F.array(F.lit(False)), F.array(F.lit(False), F.lit(True))

    payment = F.col("payment")
    next_day = (F.col("day") + 1) * DAY_S
    # All merchants are closed at hour -1, so the time is uniform over the opening hours.
    open_again = opening_second(category, F.lit(-1.0), draws.uniform("clone time", payment))
    amount = ordinary_amount(draws, payment) * by_category(
        [c.amount_factor for c in CATEGORIES], category
    )
    keys = (card, F.col("day"), F.col("moment"), cloned.cast("long"))
    return (
        frame.withColumn("incident", compromised_by(plan, draws))
        .withColumn("is_clone", F.explode(F.when(copied, two).otherwise(one)))
        .withColumnRenamed("payment", "original")
        .withColumn("payment", F.when(cloned, draws.key("clone", original)).otherwise(original))
        .withColumn("second", F.when(cloned, next_day + open_again).otherwise(F.col("second")))
        .withColumn("amount", as_money(F.when(cloned, amount).otherwise(F.col("amount"))))
        .withColumn("transaction_id", draws.identifier("ordinary", *keys))
        .withColumn("cause", F.when(cloned, F.lit(COMPROMISED_MERCHANT)))
        .withColumn("incident_id", F.when(cloned, incident_id(COMPROMISED_MERCHANT, incident)))
    )


def compromised_by(plan: SimulationPlan, draws: Draws) -> Column:
    """Return the number of the incident at a payment's merchant on its day; null without one.

    Merchants are divided into as many equal ranges as there are incidents per week. Every week one
    merchant of every range is compromised. The merchant follows from range and week, so this needs
    four hashes per payment and no join.
    """
    if plan.num_weekly_incidents == 0:
        return F.lit(None).cast("long")
    num_ranges = min(plan.num_weekly_incidents, plan.num_merchants_in_all)
    size = plan.num_merchants_in_all // num_ranges
    merchant, day = F.col("merchant"), F.col("day")
    # The remainder of an uneven division belongs to no range and is never compromised.
    position = F.floor(merchant / F.lit(size))
    shortest, longest = COMPROMISED_DAYS
    candidates = []
    for weeks_back in range(WEEKS_BACK + 1):
        week = F.floor(day / F.lit(7)) - F.lit(weeks_back)
        number = week * F.lit(num_ranges) + position
        # One hash provides all three values, from different bits. This runs for every payment, and
        # the JVM does not compile methods of more than 8,000 bytes.
        bits = draws.key("compromised", number)
        chosen = position * size + F.pmod(F.shiftright(bits, 24), F.lit(size))
        day_of_incident = day - week * 7 - F.pmod(bits, F.lit(START_DAYS + 1))
        num_days = F.lit(shortest) + F.pmod(F.shiftright(bits, 8), F.lit(longest - shortest + 1))
        lasts = (day_of_incident >= 0) & (day_of_incident < num_days)
        is_compromised = (merchant == chosen) & lasts & (week >= 0) & (position < num_ranges)
        candidates.append(F.when(is_compromised, number))
    return F.coalesce(*candidates)


def incident_id(cause: str, number: Column) -> Column:
    """Return the id of an incident: its cause and its number."""
    return F.concat(F.lit(f"{cause}-"), F.lpad(number.cast("string"), 9, "0"))
