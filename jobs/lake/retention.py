"""Compaction and vacuum: small files become few, and what no audit can ask for is deleted.

Compaction changes no row (`dataChange = false`) and leaves the files it replaces to the vacuum.
Vacuum deletes files that left the table longer ago than the audit horizon, and never one that a
pin still needs: a run inside the horizon, or a night that is not done, may read a version much
older than itself, and then the table keeps everything since that version.
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
from jobs.lake.session_settings import commits_signed_by, temporary_setting
from jobs.lake.tables import NIGHTS, RUNS, Table

# Removals carry the time at which their transaction began, a little before its commit.
MARGIN = timedelta(days=1)
LOG_PROPERTY = "delta.logRetentionDuration"
FILES_PROPERTY = "delta.deletedFileRetentionDuration"
# Those of Spark's intervals that Delta accepts for a retention.
UNITS = {name: timedelta(**{f"{name}s": 1}) for name in ("week", "day", "hour", "minute", "second")}
# Delta lists no more in a dry run.
MAX_LISTED = 1000


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
    return temporary_setting(lake, name, str(num_tasks))


def _committed_at(lake: Lake, table: Table, version: int) -> datetime | None:
    history = lake.delta_table(table).history().where(F.col("version") == version)
    rows = history.select("timestamp").collect()
    # Spark gives times in the zone of this machine.
    return rows[0]["timestamp"].astimezone(UTC) if rows else None


def vacuum(lake: Lake, work: Expired, run_id: str) -> None:
    """Delete expired files."""
    with commits_signed_by(lake, run_id), _listed_in_few_tasks(lake):
        lake.delta_table(work.table).vacuum(work.hours)
