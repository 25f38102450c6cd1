"""A snapshot of what a lake shows to its readers, and how two snapshots differ."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import TYPE_CHECKING, Any

from lakes import LAST_NIGHT

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from jobs.lake.delta_io import Lake

ERROR_TOLERANCE = 1e-5
NOT_COMPARED = {"run_id", "ingest_time", "scored_at"}


@dataclass(frozen=True)
class LakeSnapshot:
    """Rows, night states and finished jobs of a lake at one moment."""

    # Number of rows and sum of their hashes, by table and night; scores and alerts by id only.
    rows: dict[str, dict[date, tuple[int, int]]]
    versions: dict[str, int]
    # The night whose scores and alerts are compared row by row.
    day: date
    # Reconstruction errors of that night, by transaction.
    errors: dict[str, float]
    # Rank, card and transaction.
    alerts: list[tuple[int, str, str]]
    # State, lease owner and finished jobs of every night, and the run of each job.
    nights: dict[date, tuple[str, str | None, dict[str, str]]]
    runs: Counter[str]

    @property
    def night(self) -> tuple[str, str | None, dict[str, str]]:
        """Return state, lease owner and finished jobs of the night."""
        return self.nights.get(self.day, ("not begun", None, {}))

    def summary(self) -> str:
        """Return the night in one line."""
        state, owner, jobs = self.night
        rows = "/".join(
            str(self.rows[name].get(self.day, (0, 0))[0])
            for name in ("transactions", "labels", "quarantine", "features", "scores", "alerts")
        )
        return f"{state}{', leased' if owner else ''}, {len(jobs)} jobs, rows {rows}"

    def partial_nights(self, reference: LakeSnapshot) -> list[str]:
        """Return tables and nights that show some rows, but not those of the reference."""
        return [
            f"{name} of {day}: {shown}, expected {reference.rows[name].get(day)} or no rows"
            for name, nights in self.rows.items()
            for day, shown in nights.items()
            if shown != reference.rows[name].get(day)
        ]

    def differences(self, reference: LakeSnapshot) -> list[str]:
        """Return every difference from a reference lake, as text."""
        differences = self.partial_nights(reference)
        differences += [
            f"{name} of {day} is missing"
            for name, nights in reference.rows.items()
            for day in nights
            if day not in self.rows[name]
        ]
        if set(self.errors) != set(reference.errors):
            differences.append("other transactions are scored")
        differences += [
            f"the error of {key} is {error}, expected {reference.errors[key]}"
            for key, error in self.errors.items()
            if key in reference.errors
            and not math.isclose(error, reference.errors[key], rel_tol=ERROR_TOLERANCE)
        ]
        if self.alerts != reference.alerts:
            differences.append(f"alerts are {self.alerts}, expected {reference.alerts}")
        return differences + self._unfinished(reference)

    def _unfinished(self, reference: LakeSnapshot) -> list[str]:
        (state, owner, jobs), expected = self.night, reference.night
        unfinished = []
        if (state, owner, set(jobs)) != (*expected[:2], set(expected[2])):
            unfinished.append(f"the night is {state}, leased by {owner}, finished: {sorted(jobs)}")
        unfinished += [
            f"{job} of {day} has {self.runs[run_id]} rows in `runs`"
            for day, (_, _, finished) in self.nights.items()
            for job, run_id in finished.items()
            if self.runs[run_id] != 1
        ]
        return unfinished


def take_snapshot(lake: Lake, day: date = LAST_NIGHT) -> LakeSnapshot:
    """Read a lake as it is now; scores and alerts of one night are read row by row."""
    from pyspark.sql import functions as F

    from jobs.lake import tables as t

    counted = [
        *(_rows_by_night(lake, table, exact=True) for table in _exact_tables()),
        *(_rows_by_night(lake, table, exact=False) for table in (t.SCORES, t.ALERTS)),
    ]
    rows: dict[str, dict[date, tuple[int, int]]] = {
        table.name: {} for table in (*_exact_tables(), t.SCORES, t.ALERTS)
    }
    for row in reduce(lambda one, other: one.unionByName(other), counted).collect():
        rows[row["name"]][row["business_date"]] = (row["rows"], int(row["hash"]))
    scores = lake.read(t.SCORES).where(F.col("business_date") == F.lit(day)).collect()
    alerts = lake.read(t.ALERTS).where(F.col("business_date") == F.lit(day)).orderBy("rank")
    nights = {
        row["business_date"]: (
            row["state"],
            row["holder"],
            {job: json.loads(text)["run_id"] for job, text in row["jobs"].items()},
        )
        for row in lake.read(t.NIGHTS).collect()
    }
    finished = lake.read(t.RUNS).where("status = 'done'").select("run_id").collect()
    return LakeSnapshot(
        rows,
        lake.versions(t.TABLES.values()),
        day,
        {row["transaction_id"]: row["reconstruction_error"] for row in scores},
        [(row["rank"], row["card_id"], row["transaction_id"]) for row in alerts.collect()],
        nights,
        Counter(row["run_id"] for row in finished),
    )


def _exact_tables() -> tuple[Any, ...]:
    from jobs.lake import tables as t

    return t.TRANSACTIONS, t.LABELS, t.QUARANTINE, t.FEATURES_TABLE


def _rows_by_night(lake: Lake, table: Any, *, exact: bool) -> DataFrame:
    """Return count and hash of each night's rows; `exact`: of all columns, to the last bit."""
    from pyspark.sql import functions as F

    frame = lake.read(table)
    if "source" in frame.columns:
        # Some tests deliver from a folder of their own.
        frame = frame.withColumn("source", F.regexp_replace("source", "^.*/bank/", ""))
    names = [name for name in sorted(frame.columns) if name not in NOT_COMPARED]
    columns = names if exact else ["transaction_id"]
    hashed = F.xxhash64(*columns).cast("decimal(38,0)")
    return (
        frame.groupBy("business_date")
        .agg(F.count("*").alias("rows"), F.sum(hashed).alias("hash"))
        .withColumn("name", F.lit(table.name))
    )
