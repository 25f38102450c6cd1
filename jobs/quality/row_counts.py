"""Facts of staged rows, night by night, for gates to check.

A fact is a count, a minimum, a maximum or a ratio with a name. Counting takes a few passes,
however many checks there are: one over each side, and a shuffle only if the keys do not match.
Spark only counts; the expectations of `jobs/quality/suites` say which values are valid.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake.dates import Dates
from jobs.lake.tables import Table

NIGHT = "business_date"
ABSENT = "absent"
# The number of rows, and exact sums of two hashes of their ids. Each hash is summed as two halves,
# so that no sum overflows. The names are stored in `runs`.
CHECKSUMS = {
    "marked_rows": "count(*)",
    **{
        f"marked_{half}_of_{hashed}": f"sum({function})"
        for hashed, ids in (("first", "transaction_id"), ("second", "'another', transaction_id"))
        for half, function in (
            ("upper", f"shiftright(xxhash64({ids}), 32)"),
            ("lower", f"xxhash64({ids}) & 4294967295"),
        )
    },
}
# Key in a run's figures: the gate's checksums of the accepted transactions.
ACCEPTED_KEYS = "accepted_keys"
ZERO_COVERAGE = dict.fromkeys(
    ("num_accepted", "num_staged", "num_missing_keys", "num_unknown_keys", "num_duplicates"), 0
)


@dataclass(frozen=True)
class NightFacts:
    """Facts by night, and the facts of a night without rows."""

    by_night: Mapping[date, Mapping[str, Any]]
    empty_night: Mapping[str, Any]

    def without(self, names: Collection[str]) -> NightFacts:
        """Return the facts except those with these names."""
        return NightFacts(
            {day: _without(facts, names) for day, facts in self.by_night.items()},
            _without(self.empty_night, names),
        )


def _without(facts: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in names}


@dataclass(frozen=True)
class Profile:
    """The facts to compute from the columns of staged rows."""

    range_columns: Sequence[str] = ()
    """Numeric columns whose extremes are computed, as `<name>_min` and `<name>_max`."""
    required_columns: Sequence[str] = ()
    """Columns whose nulls are counted, as `<name>_missing`."""
    aggregates: Mapping[str, str] = field(default_factory=dict)
    """Further SQL aggregates of the same pass, by fact name; None for a night without rows."""

    def compute(self, rows: DataFrame) -> NightFacts:
        """Compute the facts of each night in one pass."""
        aggregates: dict[str, Column] = {}
        empty_night: dict[str, Any] = {}
        for name in self.range_columns:
            # NaN counts as infinity: a comparison with NaN would pass.
            value = F.nanvl(F.col(name).cast("double"), F.lit(math.inf))
            aggregates |= {f"{name}_min": F.min(value), f"{name}_max": F.max(value)}
            empty_night |= {f"{name}_min": None, f"{name}_max": None}
        for name in self.required_columns:
            aggregates[f"{name}_missing"] = F.count_if(F.col(name).isNull())
            empty_night[f"{name}_missing"] = 0
        for name, aggregate in self.aggregates.items():
            aggregates[name] = F.expr(aggregate)
            empty_night[name] = None
        return aggregate_per_night(rows, aggregates, empty_night)


def aggregate_per_night(
    rows: DataFrame, aggregates: Mapping[str, Column], empty_night: Mapping[str, Any]
) -> NightFacts:
    """Compute aggregates of each night's rows in one pass."""
    named = (column.alias(name) for name, column in aggregates.items())
    collected = rows.groupBy(NIGHT).agg(*named).collect()
    return NightFacts(
        {row[NIGHT]: {name: row[name] for name in aggregates} for row in collected}, empty_night
    )


@dataclass
class AcceptedKeys:
    """The accepted transactions that staged rows must belong to, at one version of their table.

    Gate 2 and gate 4 of a night read the same version, which never changes. So the second gate
    reuses the checksums that the first one recorded.
    """

    rows: DataFrame
    version: int
    recorded: Mapping[str, Any] | None = None
    """The result of `as_record` at an earlier gate; ignored if its version differs."""

    @cached_property
    def checksums(self) -> dict[date, dict[str, Any]]:
        """Return the checksums (`CHECKSUMS`) of each night."""
        recorded = self.recorded or {}
        if recorded.get("version") == self.version:
            return {
                date.fromisoformat(day): dict(checksums)
                for day, checksums in recorded["marks"].items()
            }
        aggregates = {name: F.expr(aggregate) for name, aggregate in CHECKSUMS.items()}
        by_night = aggregate_per_night(self.rows, aggregates, {}).by_night
        return {day: dict(facts) for day, facts in by_night.items()}

    def as_record(self) -> dict[str, Any]:
        """Return what a run records about the keys."""
        return {
            "version": self.version,
            "marks": {str(day): facts for day, facts in self.checksums.items()},
        }


def profile_with_key_coverage(
    profile: Profile, accepted: AcceptedKeys, staged: DataFrame
) -> list[NightFacts]:
    """Compute a profile of staged rows, and compare their keys with the accepted ones.

    The facts of the keys are `num_accepted` and `num_staged` rows; `num_missing_keys`, accepted
    keys without a staged row; `num_unknown_keys`, staged rows without an accepted key; and
    `num_duplicates`, staged rows that repeat the key of another one.

    If both sides have the same number of rows and the same sums of two 64-bit hashes of their ids,
    they have the same ids: two different sets would match by chance in one of 10^38 cases, and
    gate 1 guarantees that accepted ids are unique. Otherwise the keys are compared one by one. That
    shuffles both sides, and took four fifths of the gate's time on a million rows. The sums of
    the staged ids are computed in the profile's own pass.
    """
    extended = replace(profile, aggregates={**profile.aggregates, **CHECKSUMS})
    facts = extended.compute(staged)
    checksums = {day: _checksums(night) for day, night in facts.by_night.items()}
    if accepted.checksums != checksums:
        coverage = _compare_keys(accepted.rows, staged)
    else:
        num_rows = {day: checksum["marked_rows"] for day, checksum in checksums.items()}
        equal = {
            day: {**ZERO_COVERAGE, "num_accepted": number, "num_staged": number}
            for day, number in num_rows.items()
        }
        coverage = NightFacts(equal, ZERO_COVERAGE)
    return [coverage, facts.without(CHECKSUMS)]


def _checksums(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in CHECKSUMS}


def _compare_keys(accepted: DataFrame, staged: DataFrame) -> NightFacts:
    """Compare both sides key by key, with one shuffle of both together."""
    keys = [NIGHT, "transaction_id"]
    both = accepted.select(*keys, F.lit(1).alias("a"), F.lit(0).alias("s")).unionByName(
        staged.select(*keys, F.lit(0).alias("a"), F.lit(1).alias("s"))
    )
    per_key = both.groupBy(*keys).agg(F.sum("a").alias("a"), F.sum("s").alias("s"))
    aggregates = {
        "num_accepted": F.sum("a"),
        "num_staged": F.sum("s"),
        "num_missing_keys": F.count_if((F.col("a") > 0) & (F.col("s") == 0)),
        "num_unknown_keys": F.sum(F.when(F.col("a") == 0, F.col("s")).otherwise(0)),
        "num_duplicates": F.sum(F.greatest(F.col("s") - 1, F.lit(0))),
    }
    return aggregate_per_night(per_key, aggregates, ZERO_COVERAGE)


def count_duplicates(rows: DataFrame, key: Sequence[str], fact: str) -> NightFacts:
    """Count the rows that repeat an earlier key, in all nights together.

    Equal keys have equal hashes. So if no 64-bit hash occurs twice, no key does, and only numbers
    were shuffled. Otherwise the keys themselves are compared.
    """
    hashes = rows.groupBy(F.xxhash64(*key).alias("hash")).agg(F.count("*").alias("n"))
    if not hashes.where("n > 1").count():
        return NightFacts({}, {fact: 0})
    repeated = (
        rows.groupBy(*key)
        .agg(F.count("*").alias("n"), F.max(NIGHT).alias("night"))
        .where("n > 1")
        .select(F.col("night").alias(NIGHT), (F.col("n") - 1).alias("more"))
    )
    return aggregate_per_night(repeated, {fact: F.sum("more")}, {fact: 0})


def rows_of_facts(dates: Dates, parts: Iterable[NightFacts]) -> list[dict[str, Any]]:
    """Join facts into one row per night: each night of the run, and any other that has rows."""
    all_parts = list(parts)
    run_days = {dates.first + timedelta(days=offset) for offset in range(dates.num_nights)}
    days_with_rows = {day for part in all_parts for day in part.by_night}
    rows = []
    # Rows without a date belong to no night; they come first.
    for day in sorted(run_days | days_with_rows, key=lambda day: (day is not None, day)):
        is_outside = day is not None and day not in run_days
        row: dict[str, Any] = {NIGHT: day, "nights_outside_run": int(is_outside)}
        for part in all_parts:
            row |= {**part.empty_night, **part.by_night.get(day, {})}
        rows.append(row)
    return rows


def declared_types(table: Table) -> dict[str, str]:
    """Return the Spark type of each column that a table declares, as text."""
    return {column.name: column.type for column in table.columns}


def column_facts(found: Mapping[str, str], declared: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one row of facts for each column that is declared or exists."""
    return [
        {"column": name, "declared": declared.get(name, ABSENT), "found": found.get(name, ABSENT)}
        for name in {**declared, **found}
    ]
