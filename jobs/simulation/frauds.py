"""Frauds on single cards: stolen cards, card testing, account takeovers.

The same number of incidents of each cause starts every week, so every period contains some. An
incident has a card, a start and a few payments, all computed from its number.

| cause | pattern |
| --- | --- |
| stolen card | five to ten times the card's typical amount, several payments a day, for days |
| card testing | many tiny online payments within 40 minutes, often followed by a large one |
| takeover | payments at hours unusual for the card, at unpopular merchants |
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.simulation.cards import as_money, odd_hour, with_habits
from jobs.simulation.merchants import CATEGORIES, Merchants, by_category, category_among
from jobs.simulation.payments import COMPROMISED_MERCHANT, DAY_S, PAYMENT_COLUMNS, channel
from jobs.simulation.payments import incident_id as name_incident
from jobs.simulation.plan import SimulationPlan
from jobs.simulation.randomness import Draws

STOLEN_CARD = "stolen_card"
CARD_TESTING = "card_testing"
TAKEOVER = "takeover"
CAUSES = (COMPROMISED_MERCHANT, STOLEN_CARD, CARD_TESTING, TAKEOVER)

STOLEN_PAYMENTS = (7, 12)
STOLEN_DAYS = 4
STOLEN_FACTORS = (5.0, 10.0)
STOLEN_AT = ("electronics", "clothing", "household", "travel")

TESTING_PAYMENTS = (8, 15)
TESTING_S = 2_400
TESTING_AMOUNTS = (0.5, 2.5)
TESTING_AT = ("online_gaming", "entertainment", "transport")
# The large payment follows within two hours of the end of the tests.
HARVEST_SHARE = 0.7
HARVEST_AFTER_S = (600, 7_200)
HARVEST_FACTORS = (4.0, 9.0)

TAKEOVER_PAYMENTS = (6, 10)
TAKEOVER_NIGHTS = 3
TAKEOVER_FACTORS = (1.5, 3.0)
TAKEOVER_AT = ("online_gaming", "travel", "electronics", "entertainment")


def incident_payments(spark: SparkSession, plan: SimulationPlan) -> DataFrame:
    """Return all payments of stolen cards, card testing and takeovers."""
    draws = Draws(plan.seed)
    causes = (stolen_cards, card_testing, takeovers)
    return reduce(DataFrame.unionByName, (cause(spark, plan, draws) for cause in causes))


def stolen_cards(spark: SparkSession, plan: SimulationPlan, draws: Draws) -> DataFrame:
    """Return payments with stolen cards: large amounts in shops, over a few days."""
    payment = F.col("payment")
    day = F.col("start_day") + draws.whole("stolen on", 0, STOLEN_DAYS - 1, payment)
    second = day * DAY_S + F.floor(draws.between("stolen at", 9.0, 20.0, payment) * 3600)
    amount = F.col("typical_amount") * draws.between("stolen amount", *STOLEN_FACTORS, payment)
    category = category_among(STOLEN_AT, draws.uniform("category", payment))
    merchant = Merchants(plan).popular(F.col("category"), draws.uniform("merchant", payment))
    return _as_payments(
        _incidents(spark, plan, draws, STOLEN_CARD, STOLEN_PAYMENTS)
        .withColumn("category", category)
        .withColumn("merchant", merchant)
        .withColumn("second", second)
        .withColumn("amount", amount)
        .withColumn("channel", channel(draws, payment, F.col("category"), F.col("amount"))),
        draws,
        STOLEN_CARD,
    )


def card_testing(spark: SparkSession, plan: SimulationPlan, draws: Draws) -> DataFrame:
    """Return payments of card testing: a burst of tiny payments, often followed by a large one."""
    payment, number = F.col("payment"), F.col("number")
    first, last = HARVEST_AFTER_S
    is_last = F.col("place") == F.col("num_payments") - 1
    harvests = is_last & draws.happens("harvest", HARVEST_SHARE, number)
    start = F.col("start_day") * DAY_S + draws.whole("testing at", 0, DAY_S - 1, number)
    after = F.when(
        F.col("harvests"), F.lit(TESTING_S) + draws.whole("harvest after", first, last, number)
    ).otherwise(draws.whole("testing after", 0, TESTING_S, payment))
    large = F.col("typical_amount") * draws.between("harvest amount", *HARVEST_FACTORS, payment)
    tiny = draws.between("testing amount", *TESTING_AMOUNTS, payment)
    # All tests of an incident are at one merchant; the large payment is elsewhere.
    about = F.when(F.col("harvests"), payment).otherwise(number)
    test_category = category_among(TESTING_AT, draws.uniform("testing category", number))
    harvest_category = category_among(STOLEN_AT, draws.uniform("category", payment))
    merchants = Merchants(plan)
    return _as_payments(
        _incidents(spark, plan, draws, CARD_TESTING, TESTING_PAYMENTS)
        .withColumn("harvests", harvests)
        .withColumn(
            "category", F.when(F.col("harvests"), harvest_category).otherwise(test_category)
        )
        .withColumn(
            "merchant", merchants.popular(F.col("category"), draws.uniform("tested at", about))
        )
        .withColumn("second", start + after)
        .withColumn("amount", F.when(F.col("harvests"), large).otherwise(tiny))
        .withColumn("channel", F.lit("online")),
        draws,
        CARD_TESTING,
    )


def takeovers(spark: SparkSession, plan: SimulationPlan, draws: Draws) -> DataFrame:
    """Return payments after account takeovers: online, at hours unusual for the card."""
    payment = F.col("payment")
    night = F.col("start_day") + draws.whole("takeover on", 0, TAKEOVER_NIGHTS - 1, payment)
    second = night * DAY_S + F.floor(odd_hour(draws, payment) * 3600)
    factor = by_category([c.amount_factor for c in CATEGORIES], F.col("category"))
    raised = draws.between("takeover amount", *TAKEOVER_FACTORS, payment)
    category = category_among(TAKEOVER_AT, draws.uniform("category", payment))
    merchant = Merchants(plan).obscure(F.col("category"), draws.uniform("merchant", payment))
    return _as_payments(
        _incidents(spark, plan, draws, TAKEOVER, TAKEOVER_PAYMENTS)
        .withColumn("category", category)
        .withColumn("merchant", merchant)
        .withColumn("second", second)
        .withColumn("amount", F.col("typical_amount") * factor * raised)
        .withColumn("channel", F.lit("online")),
        draws,
        TAKEOVER,
    )


def _incidents(
    spark: SparkSession,
    plan: SimulationPlan,
    draws: Draws,
    cause: str,
    num_payments: tuple[int, int],
) -> DataFrame:
    """Return one row per payment of every incident of a cause, with the habits of its card."""
    per_week = plan.num_weekly_incidents
    number, place = F.col("number"), F.col("place")
    week = F.floor(number / F.lit(max(1, per_week)))
    incidents = spark.range(plan.num_weeks * per_week).select(
        F.col("id").alias("number"),
        draws.whole(f"{cause}/victim", 0, plan.num_cards - 1, F.col("id")).alias("card"),
    )
    places = F.array(*(F.lit(place) for place in range(num_payments[1])))
    return (
        with_habits(incidents, draws)
        .withColumn("start_day", week * 7 + draws.whole(f"{cause}/start", 0, 6, number))
        .withColumn("num_payments", draws.whole(f"{cause}/payments", *num_payments, number))
        .withColumn("place", F.explode(places))
        .filter(place < F.col("num_payments"))
        .withColumn("payment", draws.key(f"{cause}/payment", number, place))
    )


def _as_payments(frame: DataFrame, draws: Draws, cause: str) -> DataFrame:
    """Select the columns `PAYMENT_COLUMNS`."""
    number: Column = F.col("number")
    return (
        frame.withColumn("transaction_id", draws.identifier(cause, number, F.col("place")))
        .withColumn("amount", as_money(F.col("amount")))
        .withColumn("cause", F.lit(cause))
        .withColumn("incident_id", name_incident(cause, number))
        .select(*PAYMENT_COLUMNS)
    )
