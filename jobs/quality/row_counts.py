"""What is counted of staged rows, night by night, for gates to judge.

A few passes however many checks there are: one over either side, and a shuffle only where keys do
not match. Spark only counts; what a figure has to be is said by the
expectations of `jobs/quality/suites`.
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
ABSENT = "not there"
# The number of rows, and exact sums of two hashes of their ids, as halves that no sum overflows.
MARKS = {
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
# Where a run keeps what its gate has counted of the accepted transactions.
ACCEPTED_KEYS = "accepted_keys"
NO_KEYS = dict.fromkeys(
    ("num_accepted", "num_staged", "num_without", "num_strangers", "num_copies"), 0
)


@dataclass(frozen=True)
class Counted:
    """Facts per night, and what holds for a night that has no rows."""

    by_night: Mapping[date, Mapping[str, Any]]
    otherwise: Mapping[str, Any]

    def without(self, names: Collection[str]) -> Counted:
        """The other facts."""
        return Counted(
            {day: _without(facts, names) for day, facts in self.by_night.items()},
            _without(self.otherwise, names),
        )


def _without(facts: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name not in names}


@dataclass(frozen=True)
class Profile:
    """Which columns of staged rows are looked at, and for what."""

    ranged: Sequence[str] = ()
    """Numbers: their least and greatest value, as `<name>_min` and `<name>_max`."""
    required: Sequence[str] = ()
    """Columns whose nulls are counted, as `<name>_missing`."""
    counted: Mapping[str, str] = field(default_factory=dict)
    """Further aggregates of the same pass, as SQL by name; a night without rows has none."""

    def of(self, rows: DataFrame) -> Counted:
        """Count in one pass."""
        aggregates: dict[str, Column] = {}
        otherwise: dict[str, Any] = {}
        for name in self.ranged:
            # NaN counts as beyond every bound: a comparison with it would hold.
            value = F.nanvl(F.col(name).cast("double"), F.lit(math.inf))
            aggregates |= {f"{name}_min": F.min(value), f"{name}_max": F.max(value)}
            otherwise |= {f"{name}_min": None, f"{name}_max": None}
        for name in self.required:
            aggregates[f"{name}_missing"] = F.count_if(F.col(name).isNull())
            otherwise[f"{name}_missing"] = 0
        for name, aggregate in self.counted.items():
            aggregates[name] = F.expr(aggregate)
            otherwise[name] = None
        return per_night(rows, aggregates, otherwise)


def per_night(
    rows: DataFrame, aggregates: Mapping[str, Column], otherwise: Mapping[str, Any]
) -> Counted:
    """Aggregates of each night's rows, in one pass."""
    counted = rows.groupBy(NIGHT).agg(*(c.alias(name) for name, c in aggregates.items())).collect()
    return Counted(
        {row[NIGHT]: {name: row[name] for name in aggregates} for row in counted}, otherwise
    )


@dataclass
class AcceptedKeys:
    """The accepted transactions that staged rows belong to, at one version of their table.

    Gate 2 and gate 4 of a night look at the same version, which never changes, so what one has
    counted of it the other need not count again.
    """

    rows: DataFrame
    version: int
    counted: Mapping[str, Any] | None = None
    """What `as_record` gave for an earlier gate; of another version it counts for nothing."""

    @cached_property
    def marks(self) -> dict[date, dict[str, Any]]:
        """The number of rows of each night, and the sums of their hashes."""
        known = self.counted or {}
        if known.get("version") == self.version:
            return {date.fromisoformat(day): dict(marks) for day, marks in known["marks"].items()}
        aggregates = {name: F.expr(aggregate) for name, aggregate in MARKS.items()}
        return {
            day: dict(facts) for day, facts in per_night(self.rows, aggregates, {}).by_night.items()
        }

    def as_record(self) -> dict[str, Any]:
        """What a run keeps of it."""
        marks = {str(day): facts for day, facts in self.marks.items()}
        return {"version": self.version, "marks": marks}


def counted_with_coverage(
    profile: Profile, accepted: AcceptedKeys, staged: DataFrame
) -> list[Counted]:
    """What a profile counts of staged rows, and which keys only one side has, and copies.

    Facts of the keys: `num_accepted`, `num_staged`; `num_without` accepted keys that have no staged
    row; `num_strangers` staged rows without an accepted key; `num_copies` staged rows beyond the
    first.

    Where both sides have as many rows and the same sums of two 64-bit hashes of their ids, they
    hold the same ids (two different sets would by chance in one of 10^38 cases), and accepted ids
    are unique by gate 1. Anything else is compared key by key: a shuffle of both sides, which took
    four fifths of the gate's time on a million rows. The sums of the staged ids come with the
    profile's own pass.
    """
    with_marks = replace(profile, counted={**profile.counted, **MARKS}).of(staged)
    theirs = {day: _marks(facts) for day, facts in with_marks.by_night.items()}
    if accepted.marks != theirs:
        coverage = _compared(accepted.rows, staged)
    else:
        numbers = {day: mark["marked_rows"] for day, mark in theirs.items()}
        same = {
            day: {**NO_KEYS, "num_accepted": number, "num_staged": number}
            for day, number in numbers.items()
        }
        coverage = Counted(same, NO_KEYS)
    return [coverage, with_marks.without(MARKS)]


def _marks(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in MARKS}


def _compared(accepted: DataFrame, staged: DataFrame) -> Counted:
    """Both sides key by key, by one shuffle of them together."""
    keys = [NIGHT, "transaction_id"]
    both = accepted.select(*keys, F.lit(1).alias("a"), F.lit(0).alias("s")).unionByName(
        staged.select(*keys, F.lit(0).alias("a"), F.lit(1).alias("s"))
    )
    per_key = both.groupBy(*keys).agg(F.sum("a").alias("a"), F.sum("s").alias("s"))
    aggregates = {
        "num_accepted": F.sum("a"),
        "num_staged": F.sum("s"),
        "num_without": F.count_if((F.col("a") > 0) & (F.col("s") == 0)),
        "num_strangers": F.sum(F.when(F.col("a") == 0, F.col("s")).otherwise(0)),
        "num_copies": F.sum(F.greatest(F.col("s") - 1, F.lit(0))),
    }
    return per_night(per_key, aggregates, NO_KEYS)


def copies(rows: DataFrame, key: Sequence[str], name: str) -> Counted:
    """Rows beyond the first of each key, whichever night they are in, as the fact `name`.

    Equal keys have equal hashes: where no 64-bit hash stands twice, no key does, and only numbers
    were shuffled. Otherwise keys are compared themselves.
    """
    hashes = rows.groupBy(F.xxhash64(*key).alias("hash")).agg(F.count("*").alias("n"))
    if not hashes.where("n > 1").count():
        return Counted({}, {name: 0})
    repeated = (
        rows.groupBy(*key)
        .agg(F.count("*").alias("n"), F.max(NIGHT).alias("night"))
        .where("n > 1")
        .select(F.col("night").alias(NIGHT), (F.col("n") - 1).alias("more"))
    )
    return per_night(repeated, {name: F.sum("more")}, {name: 0})


def nights(dates: Dates, parts: Iterable[Counted]) -> list[dict[str, Any]]:
    """One row of facts per night: those of the run, and any other that rows were found in."""
    counted = list(parts)
    days = {dates.first + timedelta(days=offset) for offset in range(dates.num_nights)}
    found = {day for part in counted for day in part.by_night}
    rows = []
    # Rows without a date come first: they have no night.
    for day in sorted(days | found, key=lambda day: (day is not None, day)):
        row: dict[str, Any] = {NIGHT: day, "nights_off": int(day is not None and day not in days)}
        for part in counted:
            row |= {**part.otherwise, **part.by_night.get(day, {})}
        rows.append(row)
    return rows


def declared_types(table: Table) -> dict[str, str]:
    """Spark's names of the types of a table's columns."""
    return {column.name: column.type for column in table.columns}


def columns(found: Mapping[str, str], declared: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row of facts per column that is declared or was found."""
    return [
        {"column": name, "declared": declared.get(name, ABSENT), "found": found.get(name, ABSENT)}
        for name in {**declared, **found}
    ]
