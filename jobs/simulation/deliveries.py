"""Build the deliveries: transactions with late rows and defects, labels, and the ground truth."""

from __future__ import annotations

from datetime import date
from enum import Enum

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.simulation.cards import card_id
from jobs.simulation.frauds import incident_payments
from jobs.simulation.merchants import CATEGORIES, by_category, merchant_id
from jobs.simulation.payments import DAY_S, ordinary_payments
from jobs.simulation.places import PLACE_COLUMNS, with_places
from jobs.simulation.plan import SimulationPlan
from jobs.simulation.randomness import Draws

LATE_DAYS = (1, 3)
# A genuine payment is confirmed if there is no complaint for this long.
CONFIRMED_AFTER_S = 7 * DAY_S
# Card holders report a fraud after one to seven days, 90 % of them within six.
NOTICED_AFTER_DAYS = (1, 7)
FUTURE_DAYS = 30


class Defect(Enum):
    """Defects of delivered rows, with a description; ingest must not accept such a row as it is."""

    MISSING_CARD = "the card id is missing"
    NEGATIVE_AMOUNT = "the amount has the wrong sign"
    ZERO_AMOUNT = "the amount is zero"
    FUTURE_EVENT = "the event time is weeks after the delivery"
    IDENTICAL_COPY = "the row is delivered twice"
    CONFLICTING_COPY = "the row is delivered twice, with different amounts"


def delivered_payments(spark: SparkSession, plan: SimulationPlan) -> DataFrame:
    """Return all payments that are delivered within the simulated days, with the day `delivery`."""
    draws = Draws(plan.seed)
    payment = F.col("payment")
    late = F.when(
        draws.happens("late", plan.late_share, payment), draws.whole("late by", *LATE_DAYS, payment)
    ).otherwise(F.lit(0))
    return (
        ordinary_payments(spark, plan)
        .unionByName(incident_payments(spark, plan))
        .withColumn("delivery", F.floor(F.col("second") / F.lit(DAY_S)) + late)
        .filter(F.col("delivery") < plan.num_days)
    )


def transactions(payments: DataFrame, plan: SimulationPlan) -> DataFrame:
    """Return the transactions as delivered, including defects."""
    placed = with_places(payments, Draws(plan.seed))
    return _with_defects(placed, plan).select(
        "transaction_id",
        moment(plan, F.col("second")).alias("event_time"),
        F.when(~_has(Defect.MISSING_CARD), card_id(F.col("card"))).alias("card_id"),
        merchant_id(F.col("merchant")).alias("merchant_id"),
        F.col("amount").cast("decimal(18,2)").alias("amount"),
        "channel",
        by_category([c.name for c in CATEGORIES], F.col("category")).alias("merchant_category"),
        *PLACE_COLUMNS,
        day_of(plan, F.col("delivery")).alias("business_date"),
    )


def labels(payments: DataFrame, plan: SimulationPlan) -> DataFrame:
    """Return the labels of delivered payments that are known by the end of the last day."""
    draws = Draws(plan.seed)
    first, last = NOTICED_AFTER_DAYS
    share_of_delay = F.pow(draws.uniform("noticed", F.col("payment")), F.lit(2.0))
    delay = F.when(
        F.col("cause").isNotNull(),
        F.floor((F.lit(first) + (last - first) * share_of_delay) * DAY_S),
    ).otherwise(F.lit(CONFIRMED_AFTER_S))
    known = payments.withColumn("known", F.col("second") + delay)
    return known.filter(F.col("known") < plan.num_days * DAY_S).select(
        "transaction_id",
        F.col("cause").isNotNull().alias("is_fraud"),
        moment(plan, F.col("known")).alias("label_time"),
        F.when(F.col("cause").isNotNull(), "chargeback").otherwise("confirmed").alias("source"),
        day_of(plan, F.floor(F.col("known") / F.lit(DAY_S))).alias("business_date"),
    )


def truth(payments: DataFrame) -> DataFrame:
    """Return every delivered fraud with its cause and incident, for evaluation only."""
    return payments.filter(F.col("cause").isNotNull()).select(
        "transaction_id", "cause", "incident_id"
    )


def _with_defects(payments: DataFrame, plan: SimulationPlan) -> DataFrame:
    draws = Draws(plan.seed)
    payment, amount = F.col("payment"), F.col("amount")
    names = F.array(*(F.lit(defect.name) for defect in Defect))
    which = draws.whole("which defect", 0, len(Defect) - 1, payment).cast("int")
    copied = _has(Defect.IDENTICAL_COPY) | _has(Defect.CONFLICTING_COPY)
    one, two = F.array(F.lit(1)), F.array(F.lit(1), F.lit(2))
    second_differs = _has(Defect.CONFLICTING_COPY) & (F.col("copy") == 2)
    changed = (
        F.when(_has(Defect.NEGATIVE_AMOUNT), -amount)
        .when(_has(Defect.ZERO_AMOUNT), F.lit(0))
        .when(second_differs, amount + 1)
        .otherwise(amount)
    )
    postponed = F.col("second") + FUTURE_DAYS * DAY_S
    return (
        payments.withColumn(
            "defect",
            F.when(draws.happens("defect", plan.defect_share, payment), F.get(names, which)),
        )
        .withColumn("copy", F.explode(F.when(copied, two).otherwise(one)))
        .withColumn("amount", changed)
        .withColumn(
            "second",
            F.when(_has(Defect.FUTURE_EVENT), postponed).otherwise(F.col("second")),
        )
    )


def _has(defect: Defect) -> Column:
    """Return whether a row has this defect; false, not null, for a row without defects."""
    return F.col("defect").eqNullSafe(F.lit(defect.name))


def moment(plan: SimulationPlan, second: Column) -> Column:
    """Convert seconds since the first day, 00:00 UTC, to a timestamp, in any session time zone."""
    epoch = (plan.first_day - date(1970, 1, 1)).days * DAY_S
    return F.timestamp_seconds(second + F.lit(epoch))


def day_of(plan: SimulationPlan, day: Column) -> Column:
    """Convert the number of a day to a date; the first day is 0."""
    return F.date_add(F.lit(plan.first_day), day.cast("int"))
