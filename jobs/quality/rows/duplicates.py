"""Copies of a row: inside a delivery, and against the nights around it.

One shuffle by the key serves everything here: a window per key and night finds the copies of a
delivery, a window per key folds the nights in order, so a range gives what its nights one by one
would have given. What is kept per key is one entry per night, so a key that a million rows share
costs a million rows in one task, but no more memory than any other.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

IDENTICAL, CONFLICTING = "identical", "conflicting"
EARLIER_IDENTICAL, EARLIER_CONFLICTING = "earlier identical", "earlier conflicting"


def content(*columns: str) -> Column:
    """A fingerprint of these columns that tells a null from its absence."""
    flags = [F.col(name).isNull() for name in columns]
    return F.xxhash64(*(F.col(name) for name in columns), *flags)


def judge_copies(rows: DataFrame, standing: DataFrame, late_days: int) -> DataFrame:
    """Add `copy`: null for the row to accept, else which kind of copy it is.

    Args:
        rows: with `copy_key` (text), `business_date`, `content`, `told` and `passes` (row rules).
            Copies of one delivery conflict when they differ in `content`, or in what they have
            `told` beside it.
        standing: accepted rows of other nights: `copy_key`, `business_date`, `content`.
        late_days: how many nights before its own a row is compared with, and how many of those
            after it that stand already.
    """
    old = standing.select(
        "copy_key", "business_date", "content", F.lit(True).alias("passes"),
        F.lit(True).alias("stands"),
    )  # fmt: skip
    both = rows.withColumn("stands", F.lit(False)).unionByName(old, allowMissingColumns=True)
    per_night = Window.partitionBy("copy_key", "business_date")
    best_first = per_night.orderBy(F.desc("passes"), "content", F.col("told").desc_nulls_last())
    judged = (
        both.repartition("copy_key")
        .withColumn("is_first", F.row_number().over(best_first) == 1)
        .withColumn("conflicts", _differ("content", per_night) | _differ("told", per_night))
        .withColumn("candidate", _candidate())
        .withColumn("nights", F.collect_list("candidate").over(Window.partitionBy("copy_key")))
        .withColumn("copy", _verdict(late_days))
        .where(~F.col("stands"))
    )
    return judged.drop("stands", "told", "is_first", "conflicts", "candidate", "nights")


def _differ(name: str, among: WindowSpec) -> Column:
    return F.coalesce(F.min(name).over(among) != F.max(name).over(among), F.lit(False))


def _candidate() -> Column:
    may_stand = F.col("passes") & F.col("is_first") & ~F.col("conflicts")
    entry = F.struct("business_date", "content", "stands")
    return F.when(may_stand | F.col("stands"), entry)


def _verdict(late_days: int) -> Column:
    others = F.when(F.size("nights") > 0, _accepted_around(late_days))
    same = F.exists(others, lambda night: night["content"] == F.col("content"))
    return (
        F.when(F.col("conflicts"), F.lit(CONFLICTING))
        .when(~F.col("is_first"), F.lit(IDENTICAL))
        .when(F.size(others) > 0, F.when(same, EARLIER_IDENTICAL).otherwise(EARLIER_CONFLICTING))
    )


def _accepted_around(late_days: int) -> Column:
    """Nights of the key that were accepted and are near the row's own.

    Nights are judged in their order, so of those after its own only such count as stand already.
    """

    def is_near(night: Column, day: Column) -> Column:
        date = night["business_date"]
        before = (date < day) & (date >= F.date_sub(day, late_days))
        after = (date > day) & (date <= F.date_add(day, late_days))
        return before | (after & night["stands"])

    def add(accepted: Column, night: Column) -> Column:
        taken = F.exists(accepted, lambda other: is_near(other, night["business_date"]))
        return F.when(night["stands"] | taken, accepted).otherwise(
            F.concat(accepted, F.array(night))
        )

    nights = F.sort_array("nights")
    accepted = F.aggregate(nights, F.filter("nights", lambda night: night["stands"]), add)
    return F.filter(accepted, lambda night: is_near(night, F.col("business_date")))
