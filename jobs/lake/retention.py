"""Retention and vacuum: how long tables keep replaced files, and deleting them after that.

A vacuum deletes the files that were removed from a table before the audit horizon (`audit_days`).
It never deletes a file that a pin still needs: a run within the horizon, or an unfinished night,
may have pinned a version much older than itself. In that case the table keeps all files that this
version and later ones need.
"""

from __future__ import annotations

import math
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake.delta_io import Lake
from jobs.lake.runs import now
from jobs.lake.session_settings import commits_tagged_with, temporary_setting
from jobs.lake.tables import NIGHTS, RUNS, Table

# Delta dates a removal at the start of its transaction, shortly before the commit.
MARGIN = timedelta(days=1)
LOG_PROPERTY = "delta.logRetentionDuration"
FILES_PROPERTY = "delta.deletedFileRetentionDuration"
# The units of Spark intervals that Delta accepts for a retention.
UNITS = {name: timedelta(**{f"{name}s": 1}) for name in ("week", "day", "hour", "minute", "second")}
# A dry run of Delta lists at most this many files.
MAX_LISTED = 1000


# -- the audit horizon ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Pin:
    """The oldest version of a table that is still needed, and the night or run that needs it."""

    version: int
    reader: str


def oldest_pins(lake: Lake, since: datetime) -> dict[str, Pin]:
    """Return the oldest version of each table that a night or run since then has read or may read.

    Nights that are not done count, whatever their age.
    """
    nights = lake.read(NIGHTS).where(
        (F.col("state") != "done") | (F.col("updated_at") >= F.lit(since))
    )
    reader = F.format_string("the night %s", F.col("business_date").cast("string"))
    record = F.explode(F.map_values("jobs"))
    recorded = nights.select(reader.alias("reader"), record.alias("record"))
    runs = lake.read(RUNS).where(F.col("finished_at") >= F.lit(since))
    run = F.format_string("the run %s", F.col("run_id"))
    pins = _versions(nights, reader, F.col("pins"))
    for name in ("versions_in", "versions_out"):
        text = F.get_json_object("record", f"$.{name}")
        versions = F.from_json(text, "map<string,bigint>")
        pins = pins.unionByName(_versions(recorded, F.col("reader"), versions))
        pins = pins.unionByName(_versions(runs, run, F.col(name)))
    oldest = pins.groupBy("table").agg(
        F.min("version").alias("version"),
        F.min_by("reader", F.struct("version", "reader")).alias("reader"),
    )
    return {row["table"]: Pin(row["version"], row["reader"]) for row in oldest.collect()}


def _versions(rows: DataFrame, reader: Column, versions: Column) -> DataFrame:
    """Return one row per table of the map `versions`: reader, table, version."""
    return rows.select(reader.alias("reader"), F.explode(versions).alias("table", "version"))


def retention_days(lake: Lake, table: Table) -> int:
    """Return how many days a table keeps replaced files: its property or the setting, if longer."""
    return max(lake.settings.audit_days, _property_days(lake, table)[FILES_PROPERTY])


def _property_days(lake: Lake, table: Table) -> dict[str, int]:
    """Return the value of each retention property in whole days; 0 if it is not set."""
    properties = lake.delta_table(table).detail().select("properties").collect()[0][0]
    days = {}
    for name in (LOG_PROPERTY, FILES_PROPERTY):
        parts = re.findall(r"(\d+)\s+([a-z]+?)s?\b", properties.get(name, "").lower())
        lengths = (int(number) * UNITS.get(unit, timedelta()) for number, unit in parts)
        days[name] = sum(lengths, timedelta()) // timedelta(days=1)
    return days


def short_properties(lake: Lake, table: Table) -> list[str]:
    """Return the retention properties of a table that are shorter than the audit horizon."""
    days_by_name = _property_days(lake, table)
    return [name for name, days in days_by_name.items() if days < lake.settings.audit_days]


def extend_retention(lake: Lake, table: Table) -> None:
    """Make a table keep its log and replaced files for the audit horizon."""
    days = lake.settings.audit_days
    values = ", ".join(
        f"'{name}' = 'interval {days} days'" for name in short_properties(lake, table)
    )
    lake.spark.sql(f"ALTER TABLE {lake.sql_name(table)} SET TBLPROPERTIES ({values})")


# -- vacuum --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expired:
    """Files of a table that no audit can read any more."""

    table: Table
    hours: int
    """Age from which replaced files are deleted."""
    num_files: int
    """Number of expired files and folders, at most `MAX_LISTED`."""
    needed_by: str
    """Reader whose old pin makes the table keep files beyond the horizon; empty if none."""
    unreadable_pin: str
    """Reader whose pin is older than the table's log and cannot be read; empty if none."""


def expired(lake: Lake, table: Table, pin: Pin | None) -> Expired:
    """Return what a vacuum of the table may delete, given the horizon and the oldest pin."""
    horizon = timedelta(days=retention_days(lake, table))
    needed, needed_by, unreadable_pin = horizon, "", ""
    if pin is not None and pin.version < lake.version(table):
        superseded = _committed_at(lake, table, pin.version + 1)
        if superseded is None:
            unreadable_pin = f"{pin.reader} (version {pin.version})"
        elif (age := now() - superseded + MARGIN) > horizon:
            needed, needed_by = age, f"{pin.reader} (version {pin.version})"
    hours = math.ceil(needed / timedelta(hours=1))
    statement = f"VACUUM {lake.sql_name(table)} RETAIN {hours} HOURS DRY RUN"
    with _listed_in_few_tasks(lake):
        num_files = lake.spark.sql(statement).count()
    return Expired(table, hours, num_files, needed_by, unreadable_pin)


def _listed_in_few_tasks(lake: Lake) -> AbstractContextManager[None]:
    """Make a vacuum list folders in few tasks.

    Delta's default of 10,000 tasks takes a minute per table on two cores.
    """
    num_tasks = 4 * lake.spark.sparkContext.defaultParallelism
    name = "spark.sql.sources.parallelPartitionDiscovery.parallelism"
    return temporary_setting(lake, name, str(num_tasks))


def _committed_at(lake: Lake, table: Table, version: int) -> datetime | None:
    history = lake.delta_table(table).history().where(F.col("version") == version)
    rows = history.select("timestamp").collect()
    # Spark returns naive times in the time zone of this machine.
    return rows[0]["timestamp"].astimezone(UTC) if rows else None


def vacuum(lake: Lake, work: Expired, run_id: str) -> None:
    """Delete the expired files of a table."""
    with commits_tagged_with(lake, run_id), _listed_in_few_tasks(lake):
        lake.delta_table(work.table).vacuum(work.hours)
