"""How far two sets of rows differ, column by column: the population stability index (PSI).

Ten bins, whose edges are the deciles of the reference; nulls are a bin of their own, and an empty
bin counts as half a row, so that the index stays finite and equal distributions give exactly 0.
Two passes over the rows whatever the number of columns: one for the edges, one to count.
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

LEAST_NIGHTS = 7
NUM_BINS = 10
SHIFTING, SHIFTED = 0.1, 0.25
EMPTY_BIN_ROWS = 0.5
NULL_BIN = -1
# Of `percentile_approx`: an edge is off by at most a thousandth of the rows.
ACCURACY = 1000
NOT_APPLICABLE, MEASURED = "not applicable", "measured"


def population_stability_index(
    night: Mapping[int, int], reference: Mapping[int, int]
) -> float | None:
    """PSI of two histograms over the same bins; bins that both lack do not count.

    >>> population_stability_index({0: 10, 1: 30}, {0: 100, 1: 300})
    0.0
    """
    num_night, num_reference = sum(night.values()), sum(reference.values())
    if not num_night or not num_reference:
        return None
    total = 0.0
    for place in {*night, *reference}:
        here = max(night.get(place, 0), EMPTY_BIN_ROWS) / num_night
        there = max(reference.get(place, 0), EMPTY_BIN_ROWS) / num_reference
        total += (here - there) * math.log(here / there)
    return total


def level_of(psi: float | None) -> str:
    """What an index means in a word."""
    if psi is None:
        return NOT_APPLICABLE
    return "shifted" if psi > SHIFTED else "shifting" if psi >= SHIFTING else "steady"


@dataclass(frozen=True)
class Compared:
    """A frame of the night and its reference, and what to compare."""

    frame: DataFrame
    day: date
    columns: Sequence[str]
    # Names the reference nights in the sentence that says there are too few of them.
    nights_are: str


def drift(compared: Compared) -> dict[str, Any]:
    """PSI per column: one pass for the deciles of the reference, one to count both."""
    earlier = compared.frame.where(F.col("business_date") < F.lit(compared.day))
    deciles = [place / NUM_BINS for place in range(1, NUM_BINS)]
    summary = earlier.agg(
        # Few dates, so a set; a distinct count would spread every decile over two shuffles.
        F.size(F.collect_set("business_date")).alias("num_nights"),
        *(F.percentile_approx(name, deciles, ACCURACY).alias(name) for name in compared.columns),
    ).collect()[0]
    num_nights = int(summary["num_nights"])
    if num_nights < LEAST_NIGHTS:
        return {**too_few(num_nights, compared.nights_are), "columns": {}}
    edges = {name: sorted(set(summary[name] or ())) for name in compared.columns}
    counts = _bin_counts(compared, edges)
    columns = {}
    for name in compared.columns:
        psi = population_stability_index(counts[name, True], counts[name, False])
        columns[name] = {"psi": psi, "level": level_of(psi)}
    return {"status": MEASURED, "why": "", "num_nights": num_nights, "columns": columns}


def too_few(num_nights: int, nights_are: str) -> dict[str, Any]:
    """What is said instead of figures when there is too little to compare with."""
    return {
        "status": NOT_APPLICABLE,
        "why": f"{num_nights} {nights_are}; a comparison needs {LEAST_NIGHTS}.",
        "num_nights": num_nights,
    }


def _bin(name: str, edges: Sequence[float]) -> Column:
    """Number of edges below the value; nulls have a bin of their own."""
    above = reduce(add, ((F.col(name) > F.lit(edge)).cast("int") for edge in edges), F.lit(0))
    return F.when(F.col(name).isNull(), F.lit(NULL_BIN)).otherwise(above)


def _bin_counts(
    compared: Compared, edges: Mapping[str, Sequence[float]]
) -> dict[tuple[str, bool], dict[int, int]]:
    """Rows per column, side (is it the night) and bin."""
    bins = F.array(*(_bin(name, edges[name]) for name in compared.columns))
    is_night = (F.col("business_date") == F.lit(compared.day)).alias("is_night")
    rows = (
        compared.frame.select(is_night, F.posexplode(bins).alias("column", "bin"))
        .groupBy("is_night", "column", "bin")
        .count()
        .collect()
    )
    counts: dict[tuple[str, bool], dict[int, int]] = {
        (name, side): {} for name in compared.columns for side in (True, False)
    }
    for row in rows:
        counts[compared.columns[row["column"]], row["is_night"]][row["bin"]] = row["count"]
    return counts
