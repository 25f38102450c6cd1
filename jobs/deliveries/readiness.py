"""Check that a delivery is ready and fits its mapping, before any row of it is read."""

from __future__ import annotations

from datetime import date

from pyspark.sql import SparkSession
from pyspark.sql import types as T

from feature_defs.errors import InputMissing, UsageError, join_first
from feature_defs.sources import TRANSACTIONS
from jobs.deliveries.csv_headers import check_headers
from jobs.deliveries.delivery_history import previous_column_types
from jobs.deliveries.files import FILE_PATTERNS, list_files
from jobs.deliveries.mapping import Mapping
from jobs.deliveries.pseudonyms import require_key
from jobs.deliveries.reading import read_source, source_types
from jobs.deliveries.source import (
    ALLOWED_TYPES,
    Delivery,
    SourceTable,
    labels_of,
    transactions_of,
)
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.spark_errors import SPARK_READ_ERRORS, first_line
from jobs.lake.tables import TRANSACTIONS as TRANSACTIONS_TABLE
from jobs.runtime.logs import log_event
from jobs.runtime.paths import file_system


def check_ready(lake: Lake, delivery: Delivery, dates: Dates) -> None:
    """Check everything that can be checked before a night is leased; nothing is written.

    Raises:
        InputMissing: the delivery is missing, or not marked complete for a date.
        UsageError: the headers of files differ, columns are missing or have changed their type
            (all are listed), or the mapping requires pseudonyms and there is no key.
    """
    if delivery.mapping.pseudonymise:
        require_key(lake.settings.pseudonym_key)
    files = _existing_files(delivery)
    _check_markers(delivery, dates)
    if delivery.format == "csv":
        fs, _ = file_system(delivery.uri)
        check_headers(fs, files, delivery.mapping.format)
        _check_encoding_is_known(lake.spark, delivery.mapping)
    previous = previous_column_types(lake, delivery)
    missing: list[str] = []
    changed = _changed_attributes(lake, delivery.mapping)
    for table in _tables(delivery):
        types = _read_types(lake.spark, delivery, table, dates)
        if types is None:
            continue
        missing += _missing_columns(table, types)
        changed += _changed_types(table, types, previous.get(table.kind, {}))
    if missing or changed:
        errors = [f"missing columns: {', '.join(dict.fromkeys(missing))}"] if missing else []
        errors += [f"changed types: {'; '.join(dict.fromkeys(changed))}"] if changed else []
        raise UsageError(
            f"The delivery {delivery.uri} does not fit the mapping {delivery.mapping.name}: "
            f"{'; '.join(errors)}.",
            expected="all columns of the mapping, with the same types as before.",
            remedy="correct the delivery, or write a mapping with a new name for the new columns"
            f"{_keys_that_help(changed)}.",
        )


def _missing_columns(table: SourceTable, types: dict[str, T.DataType]) -> list[str]:
    """Return the mapped columns that the source lacks, each with a column of nearly this name."""
    similar = {name.strip().lower(): name for name in types}
    return [
        f"{table.kind}.{name}"
        + (f" (there is {found!r})" if (found := similar.get(name.strip().lower())) else "")
        for name, _ in table.roles
        if name not in types
    ]


def _keys_that_help(changed: list[str]) -> str:
    if not any(text.endswith("used as time") for text in changed):
        return ""
    return '; if times are numbers, set `times = "epoch_s"` or `"epoch_ms"` in its section [format]'


def _tables(delivery: Delivery) -> list[SourceTable]:
    labels = labels_of(delivery)
    return [transactions_of(delivery)] + ([labels] if labels else [])


def _existing_files(delivery: Delivery) -> dict[SourceTable, tuple[str, ...]]:
    """Return the data files of each source table; files of another format are named in the log."""
    fs, _ = file_system(delivery.uri)
    files = {table: list_files(fs, table.uri, delivery.format) for table in _tables(delivery)}
    absent = [
        f"{table.uri} does not exist or has no {delivery.format} files"
        + (f" (it has {join_first(found.others)})" if found.others else "")
        for table, found in files.items()
        if not found.data
    ]
    if absent:
        raise InputMissing(
            f"The delivery is missing: {'; '.join(absent)}.",
            expected="a data file, or a folder with files named "
            f"{FILE_PATTERNS.get(delivery.format, 'as Delta names them')}.",
            remedy="wait for the delivery, or correct --source or --format.",
        )
    for table, found in files.items():
        if found.others:
            log_event(
                f"{table.uri}: {len(found.others)} files of another format are not read",
                files=join_first(found.others),
            )
    if delivery.format == "delta":
        _check_delta(delivery)
    return {table: found.data for table, found in files.items()}


def _check_encoding_is_known(spark: SparkSession, mapping: Mapping) -> None:
    encoding = mapping.format.java_encoding
    assert spark._jvm is not None
    if not spark._jvm.java.nio.charset.Charset.isSupported(encoding):
        raise UsageError(
            f"Java cannot read the encoding {mapping.format.encoding} of {mapping.name}.",
            expected="an encoding that Python and Java know, such as utf-8, utf-16 or cp1252.",
            remedy="correct `encoding` in the section [format] of the mapping.",
        )


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
        f"attribute {name} is {lake_types[name.lower()]} in the lake and {type_} in the mapping"
        for name, type_ in mapping.attribute_types.items()
        if lake_types.get(name.lower(), type_) != type_
    ]
