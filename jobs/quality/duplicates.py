"""Copies of a row: inside a delivery, and against the nights just before it.

One shuffle by the key serves everything here: a window per key and night finds the copies of a
delivery, a window per key folds the nights in order, so a range gives what its nights one by one
would have given. What is kept per key is one entry per night, so a key that a million rows share
costs a million rows in one task, but no more memory than any other.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

IDENTICAL, CONFLICTING = "identical", "conflicting"
EARLIER_IDENTICAL, EARLIER_CONFLICTING = "earlier identical", "earlier conflicting"


def content(*columns: str) -> Column:
    """A fingerprint of these columns that tells a null from its absence."""
    flags = [F.col(name).isNull() for name in columns]
    return F.xxhash64(*(F.col(name) for name in columns), *flags)


def judge_copies(rows: DataFrame, earlier: DataFrame, late_days: int) -> DataFrame:
    """Add `copy`: null for the row to accept, else which kind of copy it is.

    Args:
        rows: with `copy_key` (text), `business_date`, `content` and `passes` (row rules).
        earlier: accepted rows of earlier nights: `copy_key`, `business_date`, `content`.
        late_days: how many nights before its own a row is compared with.
    """
    old = earlier.select(
        "copy_key", "business_date", "content", F.lit(True).alias("passes"),
        F.lit(True).alias("is_earlier"),
    )  # fmt: skip
    both = rows.withColumn("is_earlier", F.lit(False)).unionByName(old, allowMissingColumns=True)
    per_night = Window.partitionBy("copy_key", "business_date")
    best_first = per_night.orderBy(F.desc("passes"), "content")
    judged = (
        both.repartition("copy_key")
        .withColumn("is_first", F.row_number().over(best_first) == 1)
        .withColumn(
            "conflicts", F.min("content").over(per_night) != F.max("content").over(per_night)
        )
        .withColumn("candidate", _candidate())
        .withColumn("nights", F.collect_list("candidate").over(Window.partitionBy("copy_key")))
        .withColumn("copy", _verdict(late_days))
        .where(~F.col("is_earlier"))
    )
    return judged.drop("is_earlier", "is_first", "conflicts", "candidate", "nights")


def _candidate() -> Column:
    stands = F.col("passes") & F.col("is_first") & ~F.col("conflicts")
    entry = F.struct("business_date", "content", "is_earlier")
    return F.when(stands | F.col("is_earlier"), entry)


def _verdict(late_days: int) -> Column:
    before = F.when(F.size("nights") > 0, _accepted_before(late_days))
    same = F.exists(before, lambda night: night["content"] == F.col("content"))
    return (
        F.when(F.col("conflicts"), F.lit(CONFLICTING))
        .when(~F.col("is_first"), F.lit(IDENTICAL))
        .when(F.size(before) > 0, F.when(same, EARLIER_IDENTICAL).otherwise(EARLIER_CONFLICTING))
    )


def _accepted_before(late_days: int) -> Column:
    """Nights of the key that were accepted and lie in the `late_days` before the row's own."""

    def within(night: Column, day: Column) -> Column:
        date = night["business_date"]
        return (date < day) & (date >= F.date_sub(day, late_days))

    def add(accepted: Column, night: Column) -> Column:
        taken = F.exists(accepted, lambda earlier: within(earlier, night["business_date"]))
        refused = ~night["is_earlier"] & taken
        return F.when(refused, accepted).otherwise(F.concat(accepted, F.array(night)))

    nights = F.sort_array("nights")
    none = F.filter("nights", lambda night: F.lit(False))
    accepted = F.aggregate(nights, none, add)
    return F.filter(accepted, lambda night: within(night, F.col("business_date")))
