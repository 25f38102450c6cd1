"""Duplicate rows: within a delivery, and against accepted rows of the nights around it.

One shuffle by the key serves both. A window per key and night finds duplicates within a delivery. A
second window per key goes through the nights in order, so a range of nights gives the same result
as its nights one by one. Memory per key is one entry per night: a key with a million rows puts a
million rows into one task, but needs no more memory than any other key.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window, WindowSpec
from pyspark.sql import functions as F

from jobs.quality.rows.columns import (
    CONTENT_HASH,
    DUPLICATE_KEY,
    DUPLICATE_KIND,
    LABEL_HASH,
    PASSES_RULES,
)

# Kinds of duplicates: within the delivery, and of a row that another night has accepted.
IDENTICAL, CONFLICTING = "identical", "conflicting"
IDENTICAL_TO_ACCEPTED, CONFLICTS_WITH_ACCEPTED = "identical to accepted", "conflicts with accepted"

# Working columns of `mark_duplicates`, dropped at its end.
_ALREADY_ACCEPTED = "already_accepted"
_IS_FIRST = "is_first_of_night"
_HAS_CONFLICT = "has_conflict"
_CANDIDATE = "candidate"
_CANDIDATES = "candidates_of_key"


def content_hash(*columns: str) -> Column:
    """Return a hash of these columns in which a null differs from every value."""
    null_flags = [F.col(name).isNull() for name in columns]
    return F.xxhash64(*(F.col(name) for name in columns), *null_flags)


def mark_duplicates(rows: DataFrame, accepted_rows: DataFrame, late_days: int) -> DataFrame:
    """Add `DUPLICATE_KIND`: null for the row to accept, else the kind of duplicate.

    Args:
        rows: with `DUPLICATE_KEY`, `business_date`, `CONTENT_HASH`, `LABEL_HASH` and
            `PASSES_RULES`. Duplicates within a delivery conflict if their `CONTENT_HASH` or
            their `LABEL_HASH` differ. Duplicate rows that lack a label do not conflict.
        accepted_rows: of other nights, with `DUPLICATE_KEY`, `business_date` and `CONTENT_HASH`.
        late_days: number of nights before and after its own that a row is compared with. Of the
            later nights only rows that are already accepted count.
    """
    accepted = accepted_rows.select(
        DUPLICATE_KEY, "business_date", CONTENT_HASH, F.lit(True).alias(PASSES_RULES),
        F.lit(True).alias(_ALREADY_ACCEPTED),
    )  # fmt: skip
    both = rows.withColumn(_ALREADY_ACCEPTED, F.lit(False)).unionByName(
        accepted, allowMissingColumns=True
    )
    per_night = Window.partitionBy(DUPLICATE_KEY, "business_date")
    best_first = per_night.orderBy(
        F.desc(PASSES_RULES), CONTENT_HASH, F.col(LABEL_HASH).desc_nulls_last()
    )
    per_key = Window.partitionBy(DUPLICATE_KEY)
    has_conflict = _differs(CONTENT_HASH, per_night) | _differs(LABEL_HASH, per_night)
    marked = (
        both.repartition(DUPLICATE_KEY)
        .withColumn(_IS_FIRST, F.row_number().over(best_first) == 1)
        .withColumn(_HAS_CONFLICT, has_conflict)
        .withColumn(_CANDIDATE, _candidate())
        .withColumn(_CANDIDATES, F.collect_list(_CANDIDATE).over(per_key))
        .withColumn(DUPLICATE_KIND, _duplicate_kind(late_days))
        .where(~F.col(_ALREADY_ACCEPTED))
    )
    return marked.drop(
        _ALREADY_ACCEPTED, LABEL_HASH, _IS_FIRST, _HAS_CONFLICT, _CANDIDATE, _CANDIDATES
    )


def _differs(name: str, window: WindowSpec) -> Column:
    return F.coalesce(F.min(name).over(window) != F.max(name).over(window), F.lit(False))


def _candidate() -> Column:
    """Return one entry per key and night: the row that is, or can be, accepted; else null."""
    can_be_accepted = F.col(PASSES_RULES) & F.col(_IS_FIRST) & ~F.col(_HAS_CONFLICT)
    entry = F.struct("business_date", CONTENT_HASH, _ALREADY_ACCEPTED)
    return F.when(can_be_accepted | F.col(_ALREADY_ACCEPTED), entry)


def _duplicate_kind(late_days: int) -> Column:
    others = F.when(F.size(_CANDIDATES) > 0, _accepted_nearby(late_days))
    is_identical = F.exists(others, lambda night: night[CONTENT_HASH] == F.col(CONTENT_HASH))
    return (
        F.when(F.col(_HAS_CONFLICT), F.lit(CONFLICTING))
        .when(~F.col(_IS_FIRST), F.lit(IDENTICAL))
        .when(
            F.size(others) > 0,
            F.when(is_identical, IDENTICAL_TO_ACCEPTED).otherwise(CONFLICTS_WITH_ACCEPTED),
        )
    )


def _accepted_nearby(late_days: int) -> Column:
    """Return the entries of the key that other nights within `late_days` have accepted.

    Nights are processed in order. So of the nights after the row's own, only entries that are
    already accepted count.
    """

    def is_near(night: Column, day: Column) -> Column:
        date = night["business_date"]
        before = (date < day) & (date >= F.date_sub(day, late_days))
        after = (date > day) & (date <= F.date_add(day, late_days))
        return before | (after & night[_ALREADY_ACCEPTED])

    def accept(accepted: Column, night: Column) -> Column:
        is_duplicate = F.exists(accepted, lambda other: is_near(other, night["business_date"]))
        return F.when(night[_ALREADY_ACCEPTED] | is_duplicate, accepted).otherwise(
            F.concat(accepted, F.array(night))
        )

    nights = F.sort_array(_CANDIDATES)
    already_accepted = F.filter(_CANDIDATES, lambda night: night[_ALREADY_ACCEPTED])
    accepted = F.aggregate(nights, already_accepted, accept)
    return F.filter(accepted, lambda night: is_near(night, F.col("business_date")))
