"""Small-file compaction: changes no row (`dataChange = false`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from pyspark.sql import functions as F

from jobs.lake.delta_io import Lake
from jobs.lake.leases import CONFLICTS
from jobs.lake.session_settings import commits_signed_by
from jobs.lake.tables import Table


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
            with commits_signed_by(lake, run_id):
                done = builder.executeCompaction().select("metrics.*").collect()[0]
        except CONFLICTS:
            continue
        return int(done["numFilesRemoved"]), int(done["numFilesAdded"])
    return None


SMALL_FILE_BYTES = 16 * 2**20


MIN_SMALL_FILES = 2


ATTEMPTS = 3
