"""Whether a delivery is ready, before a row of it is read."""

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
from jobs.deliveries.earlier_deliveries import types_before
from jobs.deliveries.mapping import Mapping
from jobs.deliveries.pseudonyms import check_key
from jobs.deliveries.source import (
    ATTRIBUTE_TYPES,
    PATTERN_SIGNS,
    USABLE,
    Delivery,
    SourceTable,
    labels_of,
    read_source,
    source_types,
    transactions_of,
)
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.spark_errors import UNREADABLE, first_line
from jobs.lake.tables import TRANSACTIONS as TRANSACTIONS_TABLE
from jobs.runtime.paths import file_system

MAX_HEADER_BYTES = 1 << 20
MAX_FILES_NAMED = 5

# -- readiness -----------------------------------------------------------------------------------


def check_ready(lake: Lake, delivery: Delivery, dates: Dates) -> None:
    """Check all that can be checked before a night is taken; nothing is written.

    Raises:
        InputMissing: the delivery is not there, or not marked complete for a date.
        UsageError: files name different columns, columns are missing or have changed their
            type (all are named), or the
            mapping asks for pseudonyms and there is no key.
    """
    if delivery.mapping.pseudonymise:
        check_key(lake.settings.pseudonym_key)
    _check_there(delivery, dates)
    if delivery.format == "csv":
        _check_csv_files(delivery)
    before = types_before(lake, delivery)
    missing: list[str] = []
    changed: list[str] = _changed_attributes(lake, delivery.mapping)
    for table in _tables(delivery):
        types = _types(lake.spark, delivery, table, dates)
        if types is None:
            continue
        missing += [f"{table.kind}.{name}" for name, _ in table.roles if name not in types]
        changed += _changed(table, types, before.get(table.kind, {}))
    if missing or changed:
        found = [f"missing columns: {', '.join(dict.fromkeys(missing))}"] if missing else []
        found += [f"changed types: {'; '.join(dict.fromkeys(changed))}"] if changed else []
        raise UsageError(
            f"The delivery {delivery.uri} does not fit the mapping {delivery.mapping.name}: "
            f"{'; '.join(found)}.",
            expected="the columns that the mapping names, with the types they had before.",
            remedy="mend the delivery, or write a mapping with a new name for its new form.",
        )


def _tables(delivery: Delivery) -> list[SourceTable]:
    labels = labels_of(delivery)
    return [transactions_of(delivery)] + ([labels] if labels else [])


def _check_there(delivery: Delivery, dates: Dates) -> None:
    fs, _ = file_system(delivery.uri)
    absent = [table.place for table in _tables(delivery) if not any(_data_files(fs, table.place))]
    if absent:
        raise InputMissing(
            f"The delivery is not there: {', '.join(absent)} is missing or has no files.",
            expected="a file of the source, or a folder with files.",
            remedy="wait for the delivery, or correct --source.",
        )
    if delivery.format == "delta":
        _check_delta(delivery)
    open_ = unmarked(delivery, dates)
    if open_:
        raise InputMissing(
            f"The delivery {delivery.uri} is not marked complete for {', '.join(map(str, open_))}.",
            expected=f"a file such as {next(iter(open_.values()))} for each date.",
            remedy="wait until the delivery is complete and start again.",
        )


def unmarked(delivery: Delivery, dates: Dates) -> dict[date, str]:
    """Dates whose marker is not there, and where it should be; none when no marker is agreed."""
    readiness = delivery.mapping.readiness
    if readiness is None:
        return {}
    fs, _ = file_system(delivery.uri)
    places = {
        day: delivery.place(readiness.marker.replace("{business_date}", str(day)))
        for day in dates.days
    }
    return {day: place for day, place in places.items() if not fs.exists(place)}


def _data_files(fs: fsspec.AbstractFileSystem, place: str) -> Iterator[str]:
    """Files that Spark would read: names with _ or . in front are not data."""
    if fs.isfile(place):
        yield place
        return
    for entry in fs.ls(place, detail=True) if fs.exists(place) else ():
        name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
        if name.startswith(("_", ".")) and name != "_delta_log":
            continue
        if entry["type"] == "directory":
            yield from _data_files(fs, entry["name"])
        else:
            yield entry["name"]


def _check_csv_files(delivery: Delivery) -> None:
    """Check names and headers of all CSV files, which are listed once."""
    fs, _ = file_system(delivery.uri)
    files = {table: list(_data_files(fs, table.place)) for table in _tables(delivery)}
    _check_names([file for of_table in files.values() for file in of_table])
    for table, of_table in files.items():
        _check_headers(fs, table, of_table)


def _check_names(files: list[str]) -> None:
    """Check that no CSV file is called like a pattern: Spark would look for what matches it."""
    odd = [file for file in files if re.search(f"[{PATTERN_SIGNS}]", file)]
    if odd:
        raise UsageError(
            f"The names of {len(odd)} CSV files hold one of the signs [ ] {{ }} * ? \\: "
            f"{', '.join(odd[:MAX_FILES_NAMED])}.",
            expected="names that Spark does not take for patterns.",
            remedy="give the files or their folder another name, or deliver Parquet.",
        )


def _check_headers(fs: fsspec.AbstractFileSystem, table: SourceTable, files: list[str]) -> None:
    """Check that all CSV files of a table name the same columns.

    Spark checks it too, but its errors and logs quote the header, and where a file has none that
    is a row with its ids. Here only files are named.
    """
    readable = filter(_can_look_into, files)
    headers = {file: header for file in readable if (header := _header(fs, file))}
    _check_named_once(table, headers)
    if len(set(headers.values())) < 2:
        return
    usual, _ = Counter(headers.values()).most_common(1)[0]
    others = sorted(file for file, header in headers.items() if header != usual)
    raise UsageError(
        f"{len(others)} of the {len(headers)} files of {table.place} name other columns than "
        f"the rest, or lack their header: {', '.join(others[:MAX_FILES_NAMED])}.",
        expected="the same header, in the same order, in every CSV file of a delivery.",
        remedy="mend the files named, or deliver them again.",
    )


def _check_named_once(table: SourceTable, headers: dict[str, tuple[str, ...]]) -> None:
    """Check that no header names a mapped column twice, for nobody knows which one is meant."""
    twice = {
        f"{name} in {file}"
        for file, header in headers.items()
        for name, _ in table.roles
        if header.count(name.lower()) > 1
    }
    if twice:
        raise UsageError(
            f"A column is named more than once: {', '.join(sorted(twice)[:MAX_FILES_NAMED])}.",
            expected="each column that the mapping names, once in a header.",
            remedy="mend the files named, or deliver them again.",
        )


def _can_look_into(file: str) -> bool:
    return infer_compression(file) in (None, "gzip", "bz2")


def _header(fs: fsspec.AbstractFileSystem, file: str) -> tuple[str, ...]:
    """Names of the columns in small letters, as Spark compares them; none in an empty file."""
    with fs.open(file, "rb", compression="infer") as opened:
        line = opened.readline(MAX_HEADER_BYTES).decode("utf-8-sig", "replace")
    return tuple(name.lower() for name in next(csv.reader([line.rstrip("\r\n")]), ()))


def _check_delta(delivery: Delivery) -> None:
    fs, _ = file_system(delivery.uri)
    others = [t.place for t in _tables(delivery) if not fs.exists(f"{t.place}/_delta_log")]
    if others:
        raise UsageError(
            f"Not a Delta table: {', '.join(others)}.",
            expected="Delta tables, as --format says.",
            remedy="correct --format or --source.",
        )


def _types(
    spark: SparkSession, delivery: Delivery, table: SourceTable, dates: Dates
) -> dict[str, T.DataType] | None:
    """Types by column; none for a damaged delivery, which is for gate 1 to report."""
    try:
        return source_types(read_source(spark, delivery, table, dates))
    except UNREADABLE as error:
        if "CANNOT_MERGE" not in str(error):
            return None
        raise UsageError(
            f"The files of {table.place} disagree about the type of a column: {first_line(error)}",
            expected="one type for each column in all files of a command's dates.",
            remedy="deliver the files again, or ingest the dates around the change apart.",
        ) from None


def _changed(table: SourceTable, types: dict[str, T.DataType], before: dict[str, str]) -> list[str]:
    wrong = []
    for name, role in table.roles:
        if name not in types:
            continue
        found = types[name].simpleString()
        if not isinstance(types[name], USABLE[role]):
            wrong.append(f"{table.kind}.{name} is {found} and cannot be used as {role}")
        elif before.get(name, found) != found:
            wrong.append(f"{table.kind}.{name} was {before[name]} and is {found}")
    return wrong


def _changed_attributes(lake: Lake, mapping: Mapping) -> list[str]:
    if not lake.is_lake():
        return []
    ours = {column.name for column in TRANSACTIONS.columns}
    table = {
        name.lower(): type_
        for name, type_ in lake.read(TRANSACTIONS_TABLE).dtypes
        if name not in ours
    }
    return [
        f"attribute {name} is {table[name.lower()]} in the lake and {ATTRIBUTE_TYPES[kind]} here"
        for name, kind in mapping.transactions.attributes.items()
        if table.get(name.lower(), ATTRIBUTE_TYPES[kind]) != ATTRIBUTE_TYPES[kind]
    ]
