"""Reading pinned versions and publishing nights: every touch of Delta goes through `Lake`.

Staged data are plain Parquet under `_staging/<run_id>/` (no reader looks there, and no commit
is spent on them); publishing replaces whole dates in one commit, so a rerun leaves one copy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import fsspec
from delta import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession

from feature_defs.errors import InputMissing, UsageError, join_first
from jobs.lake.dates import Dates
from jobs.lake.tables import NIGHTS, TABLES, Table
from jobs.runtime.paths import file_system, uri_of
from jobs.runtime.settings import PART, Settings

# Hadoop and fsspec read patterns in paths, MLflow and Petastorm read codes.
NOT_IN_PLACES = r"\[]{}*?%"
# Others may have written since, but not this often in the moment between.
COMMITS_LOOKED_AT = 20


def require_place(lake: str) -> None:
    """Check that a lake can be at a place.

    Raises:
        UsageError: it has signs that something below us reads as a pattern or a code, or it
            cannot be reached.
    """
    odd = [sign for sign in NOT_IN_PLACES if sign in lake]
    if odd:
        raise UsageError(
            f"The lake's place {lake} has {' '.join(odd)} in it.",
            expected=f"a path or URI with none of {' '.join(NOT_IN_PLACES)} in it.",
            remedy="choose another place.",
        )
    file_system(lake)


@dataclass(frozen=True)
class Commit:
    """In whose name a publication is made."""

    run_id: str
    # Counts how often the nights were taken; of two holders the later has the higher one.
    epoch: int
    # A scalar that raises, inside the transaction, once the nights are another's.
    allowed: Column


@dataclass
class Lake:
    """A lake that a command works on."""

    spark: SparkSession
    settings: Settings

    @cached_property
    def uri(self) -> str:
        """Where the lake is, without a slash at its end; local paths are absolute."""
        require_place(self.settings.lake)
        return uri_of(self.settings.lake)

    @cached_property
    def files(self) -> fsspec.AbstractFileSystem:
        """The file system the lake lives on."""
        return file_system(self.settings.lake)[0]

    def path(self, *parts: str) -> str:
        """A place under the lake.

        Raises:
            UsageError: a part would lead out of its folder.
        """
        for part in parts:
            if part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part:
                raise UsageError(
                    f"{part!r} is no name of a file or folder.",
                    expected="a name without slashes.",
                    remedy="choose another name.",
                )
        return "/".join((self.uri, *parts))

    # -- existence ---------------------------------------------------------------------------

    def is_lake(self) -> bool:
        """Whether there is a lake at this place."""
        return self.has(NIGHTS)

    def require(self) -> None:
        """Check that there is a lake.

        Raises:
            UsageError: there is nothing, or something else.
        """
        if self.is_lake():
            return
        there = self.files.exists(self.uri)
        raise UsageError(
            f"{self.uri} is not a lake: "
            + ("it has no table `nights`." if there else "there is nothing there."),
            expected="a folder that `fraud-scoring ingest` has made.",
            remedy="correct --lake, or start a new lake with `fraud-scoring ingest`.",
        )

    def create(self) -> None:
        """Make the tables of a new lake; those already there are left alone.

        Raises:
            UsageError: the place holds something that is not a lake.
        """
        if self.is_lake():
            return
        if self.files.exists(self.uri):
            strangers = [
                name
                for path in self.files.ls(self.uri, detail=False)
                if not (name := path.rstrip("/").rsplit("/", 1)[-1]).startswith("_")
                and name not in TABLES
            ]
            if strangers or not self.files.isdir(self.uri):
                raise UsageError(
                    f"{self.uri} is not a lake and not empty: it holds "
                    f"{join_first(sorted(strangers)) or 'a file'}.",
                    expected="a lake, an empty folder or a new place.",
                    remedy="give another --lake.",
                )
        # `nights` comes last: its presence says that the lake is complete.
        for table in sorted(TABLES.values(), key=lambda table: table is NIGHTS):
            self._create_table(table)

    def _create_table(self, table: Table) -> None:
        days = self.settings.audit_days
        builder = DeltaTable.createIfNotExists(self.spark)
        if table.name in self.settings.tables:
            builder = builder.tableName(self.settings.tables[table.name])
        else:
            builder = builder.location(self._location(table))
        for column in table.columns:
            builder = builder.addColumn(column.name, column.type, nullable=column.nullable)
        if table.partitioned_by:
            builder = builder.partitionedBy(table.partitioned_by)
        # An auditor may ask for any version inside this horizon.
        builder = builder.property("delta.logRetentionDuration", f"interval {days} days")
        builder = builder.property("delta.deletedFileRetentionDuration", f"interval {days} days")
        if table is NIGHTS:
            # Appends never conflict, so a lease must be taken under the strict level.
            builder = builder.property("delta.isolationLevel", "Serializable")
        builder.execute()

    def _location(self, table: Table) -> str:
        return self.path(table.name)

    def has(self, table: Table) -> bool:
        """Whether the table is there."""
        try:
            if table.name in self.settings.tables:
                return bool(self.spark.catalog.tableExists(self.settings.tables[table.name]))
            return bool(DeltaTable.isDeltaTable(self.spark, self._location(table)))
        except Exception as error:
            # Delta does not always say which table's log is damaged.
            error.add_note(f"while opening the table `{table.name}`")
            raise

    def delta_table(self, table: Table) -> DeltaTable:
        """The table for `MERGE` and history."""
        if table.name in self.settings.tables:
            return DeltaTable.forName(self.spark, self.settings.tables[table.name])
        return DeltaTable.forPath(self.spark, self._location(table))

    def sql_name(self, table: Table) -> str:
        """The table's name in a statement, quoted."""
        if table.name in self.settings.tables:
            # A part may be quoted already.
            parts = re.findall(PART, self.settings.tables[table.name])
            return ".".join(part if part.startswith("`") else _quoted(part) for part in parts)
        return f"delta.{_quoted(self._location(table))}"

    # -- reading -----------------------------------------------------------------------------

    def version(self, table: Table) -> int:
        """The table's newest version."""
        return int(self.delta_table(table).history(1).collect()[0]["version"])

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """The table at a version; without one, the newest.

        Raises:
            InputMissing: the table is not there.
        """
        if not self.has(table):
            raise InputMissing(
                f"The table `{table.name}` is not in the lake {self.uri}.",
                expected="all tables that `ingest` makes for a new lake.",
                remedy="restore the table, or start a new lake with `fraud-scoring ingest`.",
            )
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        if table.name in self.settings.tables:
            return reader.table(self.settings.tables[table.name])
        return reader.load(self._location(table))

    # -- writing -----------------------------------------------------------------------------

    def stage(self, frame: DataFrame, run_id: str, name: str) -> DataFrame:
        """Write rows aside as Parquet and read them back, so a gate sees what will be published.

        The frame should be partitioned as it is to be written.
        """
        place = self.path("_staging", run_id, name)
        frame.write.mode("overwrite").parquet(place)
        return self.spark.read.schema(frame.schema).parquet(place)

    def staged(self, run_id: str, name: str) -> bool:
        """Whether rows were staged completely under this name."""
        return bool(self.files.exists(self.path("_staging", run_id, name, "_SUCCESS")))

    def read_staged(self, run_id: str, table: Table) -> DataFrame:
        """Rows that an earlier job staged for a table."""
        return self.spark.read.schema(table.ddl).parquet(self.path("_staging", run_id, table.name))

    def staged_types(self, run_id: str, table: Table) -> dict[str, str]:
        """Spark's names of the types that were staged, by column, as the files have them."""
        place = self.path("_staging", run_id, table.name)
        if not self.files.glob(f"{place}/part-*"):
            # No file, no foreign column: that rows are missing is for the check of the keys.
            return {column.name: column.type for column in table.columns}
        return dict(self.spark.read.parquet(place).dtypes)

    def discard_staged(self, run_id: str) -> None:
        """Remove what a run has staged."""
        place = self.path("_staging", run_id)
        if self.files.exists(place):
            self.files.rm(place, recursive=True)

    def publish(self, table: Table, frame: DataFrame, dates: Dates, commit: Commit) -> int:
        """Replace whole dates of a table in one commit; returns the version it made.

        The newest version is returned when there was nothing to change.

        Raises:
            InputMissing: Delta has skipped the write, for a commit of this epoch or a higher one
                has been there before.
        """
        writer = (
            frame.where(commit.allowed)
            .write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", dates.sql)
            .option("mergeSchema", "true")
            .option("txnAppId", f"publish/{table.name}/{dates.slug}")
            .option("txnVersion", commit.epoch)
            .option("userMetadata", json.dumps({"run_id": commit.run_id}))
        )
        made = self._save(writer, table, commit.run_id)
        if made is None and not self._is_nothing_for_nothing(table, frame, dates):
            raise InputMissing(
                f"Nothing was written to `{table.name}` for {dates}: it has been published in "
                f"epoch {commit.epoch} of these nights, or in a later one.",
                expected="a table `nights` that is as new as the tables.",
                remedy="look whether `nights` was restored from a copy or made anew; each run of "
                "the command counts the epoch one up, and writes once it is beyond.",
            )
        return self.version(table) if made is None else made

    def _is_nothing_for_nothing(self, table: Table, frame: DataFrame, dates: Dates) -> bool:
        return self.read(table).where(dates.sql).isEmpty() and frame.isEmpty()

    def append(self, table: Table, frame: DataFrame, run_id: str) -> int:
        """Add rows to a table in one commit; returns the version that has them."""
        writer = (
            frame.write.format("delta")
            .mode("append")
            .option("userMetadata", json.dumps({"run_id": run_id}))
        )
        made = self._save(writer, table, run_id)
        # No rows are no commit.
        return self.version(table) if made is None else made

    def _save(self, writer: object, table: Table, run_id: str) -> int | None:
        """Write in a run's name; the version that it made, or nothing when it made none."""
        from pyspark.sql import DataFrameWriter

        assert isinstance(writer, DataFrameWriter)
        if table.name in self.settings.tables:
            writer.saveAsTable(self.settings.tables[table.name])
        else:
            writer.save(self._location(table))
        commits = self.delta_table(table).history(COMMITS_LOOKED_AT).collect()
        mine = (row for row in commits if run_id in (row["userMetadata"] or ""))
        return next((int(row["version"]) for row in mine), None)

    def versions(self, tables: Iterable[Table]) -> dict[str, int]:
        """Newest version of each of these tables."""
        return {table.name: self.version(table) for table in tables}


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
