"""Drift between two sets of rows, column by column: the population stability index (PSI).

There are ten bins, whose edges are the deciles of the reference. Nulls have their own bin. An empty
bin counts as half a row, so that the index stays finite and equal distributions give exactly 0.
It takes two passes over the rows, however many columns there are: one for the edges, one to count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from operator import add
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

MIN_REFERENCE_NIGHTS = 7
NUM_BINS = 10
# From the first PSI on, a column is shifting; above the second it has shifted.
SHIFTING, SHIFTED = 0.1, 0.25
EMPTY_BIN_ROWS = 0.5
NULL_BIN = -1
# Accuracy of `percentile_approx`: the rank of an edge is off by at most 1/1000 of the rows.
ACCURACY = 1000
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
    """Return the PSI per column: one pass for the deciles of the reference, one to count both."""
    earlier = data.frame.where(F.col("business_date") < F.lit(data.day))
    deciles = [index / NUM_BINS for index in range(1, NUM_BINS)]
    summary = earlier.agg(
        # There are few dates, so collect them as a set: a distinct count would make Spark
        # compute every decile over two shuffles.
        F.size(F.collect_set("business_date")).alias("num_nights"),
        *(F.percentile_approx(name, deciles, ACCURACY).alias(name) for name in data.columns),
    ).collect()[0]
    num_nights = int(summary["num_nights"])
    if num_nights < MIN_REFERENCE_NIGHTS:
        return {**not_enough_nights(num_nights, data.reference_text), "columns": {}}
    edges = {name: sorted(set(summary[name] or ())) for name in data.columns}
    counts = _bin_counts(data, edges)
    columns = {}
    for name in data.columns:
        psi = population_stability_index(counts[name, True], counts[name, False])
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


def _bin_counts(
    data: DriftInput, edges: Mapping[str, Sequence[float]]
) -> dict[tuple[str, bool], dict[int, int]]:
    """Return the number of rows per bin, by column and side (true for the night)."""
    bins = F.array(*(_bin(name, edges[name]) for name in data.columns))
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
