"""Compaction and vacuum: small files become few, and what no audit can ask for is deleted.

Compaction changes no row (`dataChange = false`) and leaves the files it replaces to the vacuum.
Vacuum deletes files that left the table longer ago than the audit horizon, and never one that a
pin still needs: a run inside the horizon, or a night that is not done, may read a version much
older than itself, and then the table keeps everything since that version.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake.delta_io import Lake
from jobs.lake.holders import is_dead
from jobs.lake.leases import CONFLICTS
from jobs.lake.runs import now
from jobs.lake.tables import NIGHTS, RUNS, Table

SMALL_FILE_BYTES = 16 * 2**20
MIN_SMALL_FILES = 2
ATTEMPTS = 3
# Removals carry the time at which their transaction began, a little before its commit.
MARGIN = timedelta(days=1)
LOG_PROPERTY = "delta.logRetentionDuration"
FILES_PROPERTY = "delta.deletedFileRetentionDuration"
# Those of Spark's intervals that Delta accepts for a retention.
UNITS = {name: timedelta(**{f"{name}s": 1}) for name in ("week", "day", "hour", "minute", "second")}
# Delta lists no more in a dry run.
MAX_LISTED = 1000


@dataclass(frozen=True)
class SmallFiles:
    """Small files of a table that are worth making one of, all together or night by night."""

    table: Table
    num_files: int
    nights: tuple[date, ...]


def small_files(lake: Lake, table: Table, closed: Iterable[date]) -> SmallFiles | None:
    """Where compaction pays; of a data table only closed nights count."""
    file = F.struct("_metadata.file_path", "_metadata.file_size").alias("file")
    partition = [F.col(table.partitioned_by)] if table.partitioned_by else []
    files = lake.read(table).select(*partition, file).distinct()
    small = files.where(F.col("file.file_size") < SMALL_FILE_BYTES)
    counts = small.groupBy(*partition).agg(F.count("*").alias("num_files"))
    rows = counts.where(F.col("num_files") >= MIN_SMALL_FILES).collect()
    if not table.partitioned_by:
        return SmallFiles(table, rows[0]["num_files"], ()) if rows else None
    nights = set(closed)
    chosen = {row[0]: row["num_files"] for row in rows if row[0] in nights}
    return SmallFiles(table, sum(chosen.values()), tuple(sorted(chosen))) if chosen else None


def compact(lake: Lake, work: SmallFiles, run_id: str) -> tuple[int, int] | None:
    """Make large files of small ones; returns (files before, files after).

    None when others wrote to the table each time: their work goes first.
    """
    for _ in range(ATTEMPTS):
        builder = lake.delta_table(work.table).optimize()
        if work.nights:
            days = ", ".join(f"DATE'{day}'" for day in work.nights)
            builder = builder.where(f"business_date IN ({days})")
        try:
            with _signed(lake, run_id):
                done = builder.executeCompaction().select("metrics.*").collect()[0]
        except CONFLICTS:
            continue
        return int(done["numFilesRemoved"]), int(done["numFilesAdded"])
    return None


@contextmanager
def _signed(lake: Lake, run_id: str) -> Iterator[None]:
    """Commits of commands that take no options carry the run's id too."""
    name = "spark.databricks.delta.commitInfo.userMetadata"
    with _configured(lake, name, f'{{"run_id": "{run_id}"}}'):
        yield


@contextmanager
def _configured(lake: Lake, name: str, value: str) -> Iterator[None]:
    """A setting of the session, for a while."""
    before = lake.spark.conf.get(name, None)
    lake.spark.conf.set(name, value)
    try:
        yield
    finally:
        if before is None:
            lake.spark.conf.unset(name)
        else:
            lake.spark.conf.set(name, before)


def held_nights(lake: Lake) -> dict[date, str]:
    """Holder of each night that a live run works on."""
    held = F.col("holder").isNotNull() & (F.col("lease_until") > F.lit(now()))
    rows = lake.read(NIGHTS).where(held).select("business_date", "holder").collect()
    return {row["business_date"]: row["holder"] for row in rows if not is_dead(row["holder"])}


def closed_nights(lake: Lake) -> set[date]:
    """Nights that are done and that nobody works on."""
    rows = lake.read(NIGHTS).where("state = 'done'").select("business_date").collect()
    return {row["business_date"] for row in rows} - set(held_nights(lake))


# -- the audit horizon ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Pin:
    """The oldest version of a table that somebody may still read, and who."""

    version: int
    who: str


def oldest_pins(lake: Lake, since: datetime) -> dict[str, Pin]:
    """Per table the oldest version that a night or run inside the horizon has read or may read."""
    nights = lake.read(NIGHTS).where(
        (F.col("state") != "done") | (F.col("updated_at") >= F.lit(since))
    )
    who = F.format_string("the night %s", F.col("business_date").cast("string"))
    record = F.explode(F.map_values("jobs"))
    recorded = nights.select(who.alias("who"), record.alias("record"))
    runs = lake.read(RUNS).where(F.col("finished_at") >= F.lit(since))
    run = F.format_string("the run %s", F.col("run_id"))
    pins = _versions(nights, who, F.col("pins"))
    for name in ("versions_in", "versions_out"):
        text = F.get_json_object("record", f"$.{name}")
        versions = F.from_json(text, "map<string,bigint>")
        pins = pins.unionByName(_versions(recorded, F.col("who"), versions))
        pins = pins.unionByName(_versions(runs, run, F.col(name)))
    oldest = pins.groupBy("table").agg(
        F.min("version").alias("version"),
        F.min_by("who", F.struct("version", "who")).alias("who"),
    )
    return {row["table"]: Pin(row["version"], row["who"]) for row in oldest.collect()}


def _versions(rows: DataFrame, who: Column, versions: Column) -> DataFrame:
    return rows.select(who.alias("who"), F.explode(versions).alias("table", "version"))


def kept_days(lake: Lake, table: Table) -> int:
    """Days that a table keeps what left it: the longer of its property and the setting."""
    return max(lake.settings.audit_days, _retention_days(lake, table)[FILES_PROPERTY])


def _retention_days(lake: Lake, table: Table) -> dict[str, int]:
    """Whole days of the retention properties; 0 for one that is not set."""
    properties = lake.delta_table(table).detail().select("properties").collect()[0][0]
    days = {}
    for name in (LOG_PROPERTY, FILES_PROPERTY):
        parts = re.findall(r"(\d+)\s+([a-z]+?)s?\b", properties.get(name, "").lower())
        lengths = (int(number) * UNITS.get(unit, timedelta()) for number, unit in parts)
        days[name] = sum(lengths, timedelta()) // timedelta(days=1)
    return days


def short_properties(lake: Lake, table: Table) -> list[str]:
    """Properties that let a table forget before the audit horizon ends."""
    kept = _retention_days(lake, table)
    return [name for name, days in kept.items() if days < lake.settings.audit_days]


def lengthen(lake: Lake, table: Table) -> None:
    """Make a table keep log and files for the audit horizon."""
    days = lake.settings.audit_days
    values = ", ".join(
        f"'{name}' = 'interval {days} days'" for name in short_properties(lake, table)
    )
    lake.spark.sql(f"ALTER TABLE {lake.sql_name(table)} SET TBLPROPERTIES ({values})")


# -- vacuum --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expired:
    """Files of a table that nobody can ask for any more."""

    table: Table
    hours: int
    num_files: int
    held_by: str
    """Whose old pin makes the table keep more than the horizon asks; empty: nobody's."""
    lost: str
    """Whose pin is older than the table's log, so that it cannot be read; empty: nobody's."""


def expired(lake: Lake, table: Table, pin: Pin | None) -> Expired:
    """What a vacuum of the table would delete, within the horizon and what pins need."""
    horizon = timedelta(days=kept_days(lake, table))
    needed, held_by, lost = horizon, "", ""
    if pin is not None and pin.version < lake.version(table):
        superseded = _committed_at(lake, table, pin.version + 1)
        if superseded is None:
            lost = f"{pin.who} (version {pin.version})"
        elif (age := now() - superseded + MARGIN) > horizon:
            needed, held_by = age, f"{pin.who} (version {pin.version})"
    hours = math.ceil(needed / timedelta(hours=1))
    statement = f"VACUUM {lake.sql_name(table)} RETAIN {hours} HOURS DRY RUN"
    with _listed_in_few_tasks(lake):
        num_files = lake.spark.sql(statement).count()
    return Expired(table, hours, num_files, held_by, lost)


def _listed_in_few_tasks(lake: Lake) -> AbstractContextManager[None]:
    """By default a vacuum lists folders in 10,000 tasks: a minute a table on two cores."""
    num_tasks = 4 * lake.spark.sparkContext.defaultParallelism
    name = "spark.sql.sources.parallelPartitionDiscovery.parallelism"
    return _configured(lake, name, str(num_tasks))


def _committed_at(lake: Lake, table: Table, version: int) -> datetime | None:
    history = lake.delta_table(table).history().where(F.col("version") == version)
    rows = history.select("timestamp").collect()
    # Spark gives times in the zone of this machine.
    return rows[0]["timestamp"].astimezone(UTC) if rows else None


def vacuum(lake: Lake, work: Expired, run_id: str) -> None:
    """Delete expired files."""
    with _signed(lake, run_id), _listed_in_few_tasks(lake):
        lake.delta_table(work.table).vacuum(work.hours)
