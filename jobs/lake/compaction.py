"""Small-file compaction: find tables with many small files and rewrite them as few large files.

Compaction changes no row (`dataChange = false`). The files that it replaces stay until a vacuum
deletes them (`jobs/lake/retention.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from pyspark.sql import functions as F

from jobs.lake.delta_io import Lake
from jobs.lake.leases import CONFLICTS
from jobs.lake.session_settings import commits_tagged_with
from jobs.lake.tables import Table

SMALL_FILE_BYTES = 16 * 2**20
# Smallest number of files to merge in a partition; with fewer nothing is saved.
MIN_SMALL_FILES = 2
MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class SmallFiles:
    """Small files of one table that are worth compacting."""

    table: Table
    num_files: int
    nights: tuple[date, ...]
    """Partitions to compact; empty for a table without partitions."""


def small_files(lake: Lake, table: Table, closed: Iterable[date]) -> SmallFiles | None:
    """Find the small files of a table; return `None` if compaction would not reduce them.

    In a partitioned table only the `closed` nights are considered.
    """
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
    """Rewrite small files as large ones; return the number of files before and after.

    Return `None` if every attempt conflicted with another run's write: that write has priority.
    """
    for _ in range(MAX_ATTEMPTS):
        builder = lake.delta_table(work.table).optimize()
        if work.nights:
            days = ", ".join(f"DATE'{day}'" for day in work.nights)
            builder = builder.where(f"business_date IN ({days})")
        try:
            with commits_tagged_with(lake, run_id):
                metrics = builder.executeCompaction().select("metrics.*").collect()[0]
        except CONFLICTS:
            continue
        return int(metrics["numFilesRemoved"]), int(metrics["numFilesAdded"])
    return None
