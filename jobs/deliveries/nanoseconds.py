"""Parquet times in nanoseconds, which pandas writes by default: read, and cut to microseconds.

Spark has no type for them (SPARK-44988). With the setting `spark.sql.legacy.parquet.nanosAsLong`
it reads them as whole numbers, and the footers of the files say which numbers are times.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_defs.errors import UsageError
from jobs.deliveries.files import list_files
from jobs.deliveries.source import SourceTable
from jobs.runtime.logs import log_event
from jobs.runtime.paths import file_system
from jobs.runtime.sql_names import quoted

NANOS_PER_MICRO = 1_000
# Footers that are read at the same time.
_THREADS = 16


def with_microseconds(frame: DataFrame, table: SourceTable, paths: Sequence[str]) -> DataFrame:
    """Return the frame with times where its files have times in nanoseconds.

    A time with a zone becomes a timestamp (UTC), one without a local time. Digits below a
    microsecond are cut off; a line of the log says so.

    Raises:
        UsageError: a column has a zone in some files and none in others; deliver them alike.
    """
    whole = [field.name for field in frame.schema if isinstance(field.dataType, T.LongType)]
    if not whole:
        return frame
    zones = _nanosecond_columns(table, paths)
    if not zones:
        return frame
    log_event(
        f"{table.uri} has times in nanoseconds; they are cut to microseconds",
        columns=", ".join(sorted(zones)),
    )
    times = {name: _time(name, has_zone=has_zone) for name, has_zone in zones.items()}
    return frame.withColumns({name: times[name] for name in whole if name in times})


def _time(name: str, *, has_zone: bool) -> Column:
    nanos = F.col(quoted(name))
    remainder = F.pmod(nanos, F.lit(NANOS_PER_MICRO))
    # `div` divides whole numbers; a plain division would make floats, which are not exact.
    micros = F.call_function("div", nanos - remainder, F.lit(NANOS_PER_MICRO).cast("bigint"))
    time: Column = F.timestamp_micros(micros)
    return time if has_zone else time.cast("timestamp_ntz")


def _nanosecond_columns(table: SourceTable, paths: Sequence[str]) -> dict[str, bool]:
    """Return the columns with times in nanoseconds, each with whether they have a zone."""
    fs, _ = file_system(table.uri)
    files = [file for path in paths for file in list_files(fs, path, "parquet").data]

    def columns(file: str) -> dict[str, bool]:
        with fs.open(file, "rb") as opened:
            schema = pq.read_schema(opened)
        return {
            field.name: field.type.tz is not None
            for field in schema
            if pa.types.is_timestamp(field.type) and field.type.unit == "ns"
        }

    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(columns, files))
    zones: dict[str, bool] = {}
    mixed: set[str] = set()
    for of_file in found:
        for name, has_zone in of_file.items():
            if zones.setdefault(name, has_zone) != has_zone:
                mixed.add(name)
    if mixed:
        raise UsageError(
            f"Times have a zone in some files of {table.uri} and none in others: "
            f"{', '.join(sorted(mixed))}.",
            expected="one type for each column in all files of the command's dates.",
            remedy="deliver the files again, all with a zone or all without.",
        )
    return zones
