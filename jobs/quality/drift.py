"""Drift between two sets of rows, column by column: the population stability index (PSI).

Of numbers there are ten bins, whose edges are the deciles of the reference. Of categories, each of
the twenty most frequent values of the reference has a bin, and all other values share one. Nulls
have their own bin. An empty bin counts as half a row, so that the index stays finite and equal
distributions give exactly 0. It takes two passes over the rows, however many columns there are: one
for the edges, one to count; and for categories one more, to find their most frequent values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from operator import add
from typing import Any

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

MIN_REFERENCE_NIGHTS = 7
NUM_BINS = 10
# More bins would measure the noise of small nights: the index of two samples of one distribution
# is about (bins - 1) / rows.
NUM_CATEGORY_BINS = 20
# From the first PSI on, a column is shifting; above the second it has shifted.
SHIFTING, SHIFTED = 0.1, 0.25
EMPTY_BIN_ROWS = 0.5
NULL_BIN = -1
# Accuracy of `percentile_approx`: the rank of an edge is off by at most 1/1000 of the rows.
ACCURACY = 1000
TEXT = StringType()
NOT_APPLICABLE, MEASURED = "not applicable", "measured"


def population_stability_index(
    night: Mapping[int, int], reference: Mapping[int, int]
) -> float | None:
    """Return the PSI of two histograms over the same bins; None if one of them is empty.

    >>> population_stability_index({0: 10, 1: 30}, {0: 100, 1: 300})
    0.0
    """
    num_night, num_reference = sum(night.values()), sum(reference.values())
    if not num_night or not num_reference:
        return None
    total = 0.0
    for bin_ in {*night, *reference}:
        share = max(night.get(bin_, 0), EMPTY_BIN_ROWS) / num_night
        expected = max(reference.get(bin_, 0), EMPTY_BIN_ROWS) / num_reference
        total += (share - expected) * math.log(share / expected)
    return total


def level_of(psi: float | None) -> str:
    """Return the drift level of a PSI as a word."""
    if psi is None:
        return NOT_APPLICABLE
    return "shifted" if psi > SHIFTED else "shifting" if psi >= SHIFTING else "steady"


@dataclass(frozen=True)
class DriftInput:
    """The rows of a night and of its reference nights, and the columns to compare."""

    frame: DataFrame
    day: date
    columns: Sequence[str]
    reference_text: str
    """Describes the reference nights in the sentence for too few of them; follows their number."""


def drift(data: DriftInput) -> dict[str, Any]:
    """Return the PSI per column; columns of text are categories, all others numbers."""
    categorical = [name for name in data.columns if data.frame.schema[name].dataType == TEXT]
    numeric = [name for name in data.columns if name not in categorical]
    earlier = data.frame.where(F.col("business_date") < F.lit(data.day))
    deciles = [index / NUM_BINS for index in range(1, NUM_BINS)]
    summary = earlier.agg(
        # There are few dates, so collect them as a set: a distinct count would make Spark
        # compute every decile over two shuffles.
        F.size(F.collect_set("business_date")).alias("num_nights"),
        *(F.percentile_approx(name, deciles, ACCURACY).alias(name) for name in numeric),
    ).collect()[0]
    num_nights = int(summary["num_nights"])
    if num_nights < MIN_REFERENCE_NIGHTS:
        return {**not_enough_nights(num_nights, data.reference_text), "columns": {}}
    bins = {name: _bin(name, sorted(set(summary[name] or ()))) for name in numeric}
    for name, values in _frequent_values(earlier, categorical).items():
        bins[name] = _category_bin(name, values)
    counts = _bin_counts(data, bins)
    columns = {}
    for name in data.columns:
        reference = counts[name, False]
        # A column that no earlier night has is new: there is nothing to compare it with.
        is_new = set(reference) == {NULL_BIN} != set(counts[name, True])
        psi = None if is_new else population_stability_index(counts[name, True], reference)
        columns[name] = {"psi": psi, "level": level_of(psi)}
    return {"status": MEASURED, "why": "", "num_nights": num_nights, "columns": columns}


def not_enough_nights(num_nights: int, reference_text: str) -> dict[str, Any]:
    """Return the figures for a comparison that has too few reference nights."""
    return {
        "status": NOT_APPLICABLE,
        "why": f"{num_nights} {reference_text}; a comparison needs {MIN_REFERENCE_NIGHTS}.",
        "num_nights": num_nights,
    }


def _bin(name: str, edges: Sequence[float]) -> Column:
    """Return the number of edges below the value; nulls have their own bin."""
    above = reduce(add, ((F.col(name) > F.lit(edge)).cast("int") for edge in edges), F.lit(0))
    return F.when(F.col(name).isNull(), F.lit(NULL_BIN)).otherwise(above)


def _frequent_values(rows: DataFrame, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the most frequent values of each column, ties in alphabetical order."""
    frequent: dict[str, list[str]] = {name: [] for name in names}
    if not names:
        return frequent
    counts = (
        rows.select(F.posexplode(F.array(*names)).alias("column", "value"))
        .where(F.col("value").isNotNull())
        .groupBy("column", "value")
        .count()
    )
    order = Window.partitionBy("column").orderBy(F.desc("count"), "value")
    places = counts.withColumn("place", F.row_number().over(order))
    for row in places.where(F.col("place") <= NUM_CATEGORY_BINS).orderBy("place").collect():
        frequent[names[row["column"]]].append(row["value"])
    return frequent


def _category_bin(name: str, values: Sequence[str]) -> Column:
    """Return the place of the value among the frequent ones; others and nulls have a bin each."""
    place = F.array_position(F.array(*(F.lit(value) for value in values)), F.col(name))
    known = F.when(place > 0, place.cast("int")).otherwise(F.lit(0)) if values else F.lit(0)
    return F.when(F.col(name).isNull(), F.lit(NULL_BIN)).otherwise(known)


def _bin_counts(
    data: DriftInput, bin_of: Mapping[str, Column]
) -> dict[tuple[str, bool], dict[int, int]]:
    """Return the number of rows per bin, by column and side (true for the night)."""
    bins = F.array(*(bin_of[name] for name in data.columns))
    is_night = (F.col("business_date") == F.lit(data.day)).alias("is_night")
    rows = (
        data.frame.select(is_night, F.posexplode(bins).alias("column", "bin"))
        .groupBy("is_night", "column", "bin")
        .count()
        .collect()
    )
    counts: dict[tuple[str, bool], dict[int, int]] = {
        (name, side): {} for name in data.columns for side in (True, False)
    }
    for row in rows:
        counts[data.columns[row["column"]], row["is_night"]][row["bin"]] = row["count"]
    return counts
