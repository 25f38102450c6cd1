"""Check that a delivery is ready and fits its mapping, before any row of it is read."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from datetime import date

import fsspec
from fsspec.utils import infer_compression
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from feature_defs.errors import InputMissing, UsageError
from feature_defs.sources import TRANSACTIONS
from jobs.deliveries.delivery_history import previous_column_types
from jobs.deliveries.mapping import Mapping
from jobs.deliveries.pseudonyms import require_key
from jobs.deliveries.source import (
    ALLOWED_TYPES,
    ATTRIBUTE_TYPES,
    GLOB_CHARACTERS,
    Delivery,
    SourceTable,
    labels_of,
    read_source,
    source_types,
    transactions_of,
)
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.spark_errors import SPARK_READ_ERRORS, first_line
from jobs.lake.tables import TRANSACTIONS as TRANSACTIONS_TABLE
from jobs.runtime.paths import file_system

MAX_HEADER_BYTES = 1 << 20
MAX_FILES_NAMED = 5


def check_ready(lake: Lake, delivery: Delivery, dates: Dates) -> None:
    """Check everything that can be checked before a night is leased; nothing is written.

    Raises:
        InputMissing: the delivery is missing, or not marked complete for a date.
        UsageError: the headers of files differ, columns are missing or have changed their type
            (all are listed), or the mapping requires pseudonyms and there is no key.
    """
    if delivery.mapping.pseudonymise:
        require_key(lake.settings.pseudonym_key)
    _check_files_exist(delivery)
    _check_markers(delivery, dates)
    if delivery.format == "csv":
        _check_csv_files(delivery)
    previous = previous_column_types(lake, delivery)
    missing: list[str] = []
    changed = _changed_attributes(lake, delivery.mapping)
    for table in _tables(delivery):
        types = _read_types(lake.spark, delivery, table, dates)
        if types is None:
            continue
        missing += [f"{table.kind}.{name}" for name, _ in table.roles if name not in types]
        changed += _changed_types(table, types, previous.get(table.kind, {}))
    if missing or changed:
        errors = [f"missing columns: {', '.join(dict.fromkeys(missing))}"] if missing else []
        errors += [f"changed types: {'; '.join(dict.fromkeys(changed))}"] if changed else []
        raise UsageError(
            f"The delivery {delivery.uri} does not fit the mapping {delivery.mapping.name}: "
            f"{'; '.join(errors)}.",
            expected="all columns of the mapping, with the same types as before.",
            remedy="correct the delivery, or write a mapping with a new name for the new columns.",
        )


def _tables(delivery: Delivery) -> list[SourceTable]:
    labels = labels_of(delivery)
    return [transactions_of(delivery)] + ([labels] if labels else [])


def _check_files_exist(delivery: Delivery) -> None:
    fs, _ = file_system(delivery.uri)
    absent = [table.uri for table in _tables(delivery) if not any(_data_files(fs, table.uri))]
    if absent:
        raise InputMissing(
            f"The delivery is missing: {', '.join(absent)} does not exist or has no files.",
            expected="a data file, or a folder with data files.",
            remedy="wait for the delivery, or correct --source.",
        )
    if delivery.format == "delta":
        _check_delta(delivery)


def _check_markers(delivery: Delivery, dates: Dates) -> None:
    absent = missing_markers(delivery, dates)
    if absent:
        raise InputMissing(
            f"The delivery {delivery.uri} is not marked complete for "
            f"{', '.join(map(str, absent))}.",
            expected=f"a file such as {next(iter(absent.values()))} for each date.",
            remedy="wait until the delivery is complete, then run the command again.",
        )


def missing_markers(delivery: Delivery, dates: Dates) -> dict[date, str]:
    """Return the dates without a completeness marker, with the URI where it is expected.

    The result is empty if the mapping has no marker.
    """
    readiness = delivery.mapping.readiness
    if readiness is None:
        return {}
    fs, _ = file_system(delivery.uri)
    markers = {
        day: delivery.uri_below(readiness.marker.replace("{business_date}", str(day)))
        for day in dates.days
    }
    return {day: marker for day, marker in markers.items() if not fs.exists(marker)}


def _data_files(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[str]:
    """Yield the files that Spark would read; it skips names that start with `_` or `.`."""
    if fs.isfile(path):
        yield path
        return
    for entry in fs.ls(path, detail=True) if fs.exists(path) else ():
        name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
        if name.startswith(("_", ".")) and name != "_delta_log":
            continue
        if entry["type"] == "directory":
            yield from _data_files(fs, entry["name"])
        else:
            yield entry["name"]


def _check_csv_files(delivery: Delivery) -> None:
    """Check names and headers of all CSV files; list the files only once."""
    fs, _ = file_system(delivery.uri)
    files = {table: list(_data_files(fs, table.uri)) for table in _tables(delivery)}
    _check_names([file for table_files in files.values() for file in table_files])
    for table, table_files in files.items():
        _check_headers(fs, table, table_files)


def _check_names(files: list[str]) -> None:
    """Check that no path of a CSV file is a glob pattern: Spark would read the files it matches."""
    patterns = [file for file in files if re.search(f"[{GLOB_CHARACTERS}]", file)]
    if patterns:
        raise UsageError(
            f"The names of {len(patterns)} CSV files contain one of the characters "
            f"[ ] {{ }} * ? \\: {', '.join(patterns[:MAX_FILES_NAMED])}.",
            expected="names that Spark does not read as glob patterns.",
            remedy="rename the files or their folder, or deliver Parquet.",
        )


def _check_headers(fs: fsspec.AbstractFileSystem, table: SourceTable, files: list[str]) -> None:
    """Check that all CSV files of a table have the same header.

    Spark checks this too, but its errors and logs quote the first line. In a file without a header,
    this line is a row with ids. This check names only the files.
    """
    readable = filter(_has_readable_compression, files)
    headers = {file: header for file in readable if (header := _header(fs, file))}
    _check_no_repeated_columns(table, headers)
    if len(set(headers.values())) < 2:
        return
    most_common, _ = Counter(headers.values()).most_common(1)[0]
    others = sorted(file for file, header in headers.items() if header != most_common)
    raise UsageError(
        f"{len(others)} of the {len(headers)} files of {table.uri} have a header that differs "
        f"from the rest, or no header: {', '.join(others[:MAX_FILES_NAMED])}.",
        expected="the same header, in the same order, in every CSV file of a delivery.",
        remedy="correct the listed files and deliver them again.",
    )


def _check_no_repeated_columns(table: SourceTable, headers: dict[str, tuple[str, ...]]) -> None:
    """Check that no header repeats a mapped column: it would be unclear which one to use."""
    repeated = {
        f"{name} in {file}"
        for file, header in headers.items()
        for name, _ in table.roles
        if header.count(name.lower()) > 1
    }
    if repeated:
        raise UsageError(
            f"A header repeats a column: {', '.join(sorted(repeated)[:MAX_FILES_NAMED])}.",
            expected="each column of the mapping once in a header.",
            remedy="correct the listed files and deliver them again.",
        )


def _has_readable_compression(file: str) -> bool:
    return infer_compression(file) in (None, "gzip", "bz2")


def _header(fs: fsspec.AbstractFileSystem, file: str) -> tuple[str, ...]:
    """Return the column names in lower case, as Spark compares them; () for an empty file."""
    with fs.open(file, "rb", compression="infer") as opened:
        line = opened.readline(MAX_HEADER_BYTES).decode("utf-8-sig", "replace")
    return tuple(name.lower() for name in next(csv.reader([line.rstrip("\r\n")]), ()))


def _check_delta(delivery: Delivery) -> None:
    fs, _ = file_system(delivery.uri)
    others = [t.uri for t in _tables(delivery) if not fs.exists(f"{t.uri}/_delta_log")]
    if others:
        raise UsageError(
            f"Not a Delta table: {', '.join(others)}.",
            expected="Delta tables, because the format is `delta`.",
            remedy="correct --format or --source.",
        )


def _read_types(
    spark: SparkSession, delivery: Delivery, table: SourceTable, dates: Dates
) -> dict[str, T.DataType] | None:
    """Return the type of each source column; None for a damaged delivery, which gate 1 reports."""
    try:
        return source_types(read_source(spark, delivery, table, dates))
    except SPARK_READ_ERRORS as error:
        if "CANNOT_MERGE" not in str(error):
            return None
        raise UsageError(
            f"A column has different types in the files of {table.uri}: {first_line(error)}",
            expected="one type for each column in all files of the command's dates.",
            remedy="deliver the files again, or run `ingest` separately for the dates before and "
            "after the change.",
        ) from None


def _changed_types(
    table: SourceTable, types: dict[str, T.DataType], previous: dict[str, str]
) -> list[str]:
    """Describe each mapped column whose type is not allowed or differs from the previous one."""
    errors = []
    for name, role in table.roles:
        if name not in types:
            continue
        found = types[name].simpleString()
        if not isinstance(types[name], ALLOWED_TYPES[role]):
            errors.append(f"{table.kind}.{name} is {found} and cannot be used as {role}")
        elif previous.get(name, found) != found:
            errors.append(f"{table.kind}.{name} was {previous[name]} and is {found}")
    return errors


def _changed_attributes(lake: Lake, mapping: Mapping) -> list[str]:
    """Describe each attribute whose type differs from its column in `transactions`."""
    if not lake.is_lake():
        return []
    required = {column.name for column in TRANSACTIONS.columns}
    lake_types = {
        name.lower(): type_
        for name, type_ in lake.read(TRANSACTIONS_TABLE).dtypes
        if name not in required
    }
    return [
        f"attribute {name} is {lake_types[name.lower()]} in the lake and {ATTRIBUTE_TYPES[kind]} "
        "in the mapping"
        for name, kind in mapping.transactions.attributes.items()
        if lake_types.get(name.lower(), ATTRIBUTE_TYPES[kind]) != ATTRIBUTE_TYPES[kind]
    ]
