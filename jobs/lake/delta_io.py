"""`Lake`: read pinned versions of tables, stage rows, publish nights. All Delta calls are here.

Staged data are plain Parquet files under `_staging/<run_id>/`: no reader looks there, and staging
costs no commit. Publishing replaces whole dates in one commit, so a rerun leaves one copy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import fsspec
from delta import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession

from feature_defs.errors import InputMissing, UsageError, join_first
from jobs.lake.commits import newest_version, version_of_run
from jobs.lake.dates import Dates
from jobs.lake.tables import NIGHTS, TABLES, Table
from jobs.runtime.paths import file_system, uri_of
from jobs.runtime.settings import PART, Settings
from jobs.runtime.sql_names import quoted

# Hadoop and fsspec interpret these as glob patterns, MLflow and Petastorm as escape codes.
FORBIDDEN_PATH_CHARACTERS = r"\[]{}*?%"


def require_valid_lake_path(lake: str) -> None:
    """Check that a path or URI can be used for a lake.

    Raises:
        UsageError: it contains a character that a library would interpret as a pattern or an
            escape code, or its file system is unknown.
    """
    forbidden = [character for character in FORBIDDEN_PATH_CHARACTERS if character in lake]
    if forbidden:
        raise UsageError(
            f"The path of the lake, {lake}, contains {' '.join(forbidden)}.",
            expected=f"a path or URI without {' '.join(FORBIDDEN_PATH_CHARACTERS)}.",
            remedy="choose another path.",
        )
    file_system(lake)


# Function that stages rows under a name and returns them as written.
Stage = Callable[[DataFrame, str], DataFrame]


@dataclass(frozen=True)
class Commit:
    """The run that publishes, and what keeps it from publishing without a lease."""

    run_id: str
    # Fencing token: how often the nights were leased. A later lease owner has a higher one.
    epoch: int
    # Scalar that raises inside the transaction if another run has taken over the lease.
    fence: Column


@dataclass
class Lake:
    """A lake: its Spark session, its settings and all operations on its tables."""

    spark: SparkSession
    settings: Settings

    @cached_property
    def uri(self) -> str:
        """Return the URI of the lake without a trailing slash; local paths are absolute."""
        require_valid_lake_path(self.settings.lake)
        return uri_of(self.settings.lake)

    @cached_property
    def files(self) -> fsspec.AbstractFileSystem:
        """Return the file system that contains the lake."""
        return file_system(self.settings.lake)[0]

    def path(self, *parts: str) -> str:
        """Return the path of a file or folder in the lake.

        Raises:
            UsageError: a part is not a plain name and could lead out of its folder.
        """
        for part in parts:
            if part in ("", ".", "..") or "/" in part or "\\" in part or "\0" in part:
                raise UsageError(
                    f"{part!r} is not a valid name of a file or folder.",
                    expected="a name without slashes.",
                    remedy="choose another name.",
                )
        return "/".join((self.uri, *parts))

    # -- existence ---------------------------------------------------------------------------

    def is_lake(self) -> bool:
        """Return whether a lake exists at this path."""
        return self.has(NIGHTS)

    def require(self) -> None:
        """Check that the lake exists.

        Raises:
            UsageError: nothing exists at this path, or it is not a lake.
        """
        if self.is_lake():
            return
        exists = self.files.exists(self.uri)
        raise UsageError(
            f"{self.uri} is not a lake: "
            + ("it has no table `nights`." if exists else "the path does not exist."),
            expected="a folder that `fraud-scoring ingest` has created.",
            remedy="correct --lake, or create a new lake with `fraud-scoring ingest`.",
        )

    def create(self) -> None:
        """Create the tables of a new lake; do not change tables that already exist.

        Raises:
            UsageError: the path contains something that is not a lake.
        """
        if self.is_lake():
            return
        if self.files.exists(self.uri):
            other_files = [
                name
                for path in self.files.ls(self.uri, detail=False)
                if not (name := path.rstrip("/").rsplit("/", 1)[-1]).startswith("_")
                and name not in TABLES
            ]
            if other_files or not self.files.isdir(self.uri):
                raise UsageError(
                    f"{self.uri} is not a lake and not empty: it contains "
                    f"{join_first(sorted(other_files)) or 'a file'}.",
                    expected="a lake, an empty folder or a path that does not exist yet.",
                    remedy="pass another path to --lake.",
                )
        # `nights` is created last: if it exists, the lake is complete.
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
        # An audit may read any version within this horizon.
        builder = builder.property("delta.logRetentionDuration", f"interval {days} days")
        builder = builder.property("delta.deletedFileRetentionDuration", f"interval {days} days")
        if table is NIGHTS:
            # Under the default level appends never conflict, so two runs could lease one night.
            builder = builder.property("delta.isolationLevel", "Serializable")
        builder.execute()

    def _location(self, table: Table) -> str:
        return self.path(table.name)

    def has(self, table: Table) -> bool:
        """Return whether the table exists."""
        try:
            if table.name in self.settings.tables:
                return bool(self.spark.catalog.tableExists(self.settings.tables[table.name]))
            return bool(DeltaTable.isDeltaTable(self.spark, self._location(table)))
        except Exception as error:
            # Delta's own message does not always name the table whose log is damaged.
            error.add_note(f"while opening the table `{table.name}`")
            raise

    def delta_table(self, table: Table) -> DeltaTable:
        """Return Delta's handle of the table, for `MERGE`, history and maintenance."""
        if table.name in self.settings.tables:
            return DeltaTable.forName(self.spark, self.settings.tables[table.name])
        return DeltaTable.forPath(self.spark, self._location(table))

    def sql_name(self, table: Table) -> str:
        """Return the table's quoted name for a SQL statement."""
        if table.name in self.settings.tables:
            # A part may be quoted already.
            parts = re.findall(PART, self.settings.tables[table.name])
            return ".".join(part if part.startswith("`") else quoted(part) for part in parts)
        return f"delta.{quoted(self._location(table))}"

    # -- reading -----------------------------------------------------------------------------

    def version(self, table: Table) -> int:
        """Return the newest version of the table."""
        return newest_version(self.spark, self.delta_table(table))

    def read(self, table: Table, version: int | None = None) -> DataFrame:
        """Return the table at a version, by default the newest.

        Raises:
            InputMissing: the table does not exist.
        """
        if not self.has(table):
            raise InputMissing(
                f"The table `{table.name}` is not in the lake {self.uri}.",
                expected="all tables that `ingest` creates in a new lake.",
                remedy="restore the table, or create a new lake with `fraud-scoring ingest`.",
            )
        reader = self.spark.read.format("delta")
        if version is not None:
            reader = reader.option("versionAsOf", version)
        if table.name in self.settings.tables:
            return reader.table(self.settings.tables[table.name])
        return reader.load(self._location(table))

    # -- writing -----------------------------------------------------------------------------

    def stage(self, frame: DataFrame, run_id: str, name: str) -> DataFrame:
        """Write rows to staging and read them back, so a gate checks what will be published.

        Partition the frame as its files should be.
        """
        path = self.path("_staging", run_id, name)
        frame.write.mode("overwrite").parquet(path)
        return self.spark.read.schema(frame.schema).parquet(path)

    @contextmanager
    def staging(self, run_id: str) -> Iterator[Stage]:
        """Stage rows for a run; delete them at the end of the block, also after an error."""
        try:
            yield lambda frame, name: self.stage(frame, run_id, name)
        finally:
            self.discard_staged(run_id)

    def staged(self, run_id: str, name: str) -> bool:
        """Return whether rows were staged completely under this name."""
        return bool(self.files.exists(self.path("_staging", run_id, name, "_SUCCESS")))

    def read_staged(self, run_id: str, table: Table) -> DataFrame:
        """Return the rows that an earlier job staged for a table."""
        return self.spark.read.schema(table.ddl).parquet(self.path("_staging", run_id, table.name))

    def staged_types(self, run_id: str, table: Table) -> dict[str, str]:
        """Return the Spark type of each column in the staged files."""
        path = self.path("_staging", run_id, table.name)
        if not self.files.glob(f"{path}/part-*"):
            # No files: no type can be wrong, and the check of the keys reports the missing rows.
            return {column.name: column.type for column in table.columns}
        return dict(self.spark.read.parquet(path).dtypes)

    def discard_staged(self, run_id: str) -> None:
        """Delete everything that a run has staged."""
        path = self.path("_staging", run_id)
        if self.files.exists(path):
            self.files.rm(path, recursive=True)

    def publish(self, table: Table, frame: DataFrame, dates: Dates, commit: Commit) -> int:
        """Replace whole dates of a table in one commit and return the version of that commit.

        Return the newest version if there was nothing to change.

        Raises:
            InputMissing: Delta skipped the write because the table already has a commit with this
                epoch or a higher one.
        """
        writer = (
            frame.where(commit.fence)
            .write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", dates.sql)
            .option("mergeSchema", "true")
            .option("txnAppId", f"publish/{table.name}/{dates.slug}")
            .option("txnVersion", commit.epoch)
            .option("userMetadata", json.dumps({"run_id": commit.run_id}))
        )
        version = self._save(writer, table, commit.run_id)
        if version is None and not self._is_empty_before_and_after(table, frame, dates):
            raise InputMissing(
                f"Nothing was written to `{table.name}` for {dates}: it was already published with "
                f"epoch {commit.epoch} of these nights, or with a higher one.",
                expected="a table `nights` that is as new as the other tables.",
                remedy="check whether `nights` was restored from a copy or created again. Each run "
                "of the command raises the epoch by one; it writes once the epoch is high enough.",
            )
        return self.version(table) if version is None else version

    def _is_empty_before_and_after(self, table: Table, frame: DataFrame, dates: Dates) -> bool:
        return self.read(table).where(dates.sql).isEmpty() and frame.isEmpty()

    def append(self, table: Table, frame: DataFrame, run_id: str) -> int:
        """Append rows to a table in one commit and return the version that contains them."""
        writer = (
            frame.write.format("delta")
            .mode("append")
            .option("userMetadata", json.dumps({"run_id": run_id}))
        )
        version = self._save(writer, table, run_id)
        # Delta makes no commit for an empty frame.
        return self.version(table) if version is None else version

    def _save(self, writer: object, table: Table, run_id: str) -> int | None:
        """Write, and return the version of this run's commit, or `None` if Delta made none."""
        from pyspark.sql import DataFrameWriter

        assert isinstance(writer, DataFrameWriter)
        if table.name in self.settings.tables:
            writer.saveAsTable(self.settings.tables[table.name])
        else:
            writer.save(self._location(table))
        return version_of_run(self.spark, self.delta_table(table), run_id)

    def versions(self, tables: Iterable[Table]) -> dict[str, int]:
        """Return the newest version of each table, by table name."""
        return {table.name: self.version(table) for table in tables}
