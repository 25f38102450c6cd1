"""Read a delivery's rows as the source stores them: Delta, Parquet, CSV, JSON lines.

CSV is read as text with a header. Quoted fields may span lines. Records that do not fit the
header are kept for the quarantine. No reader can tell a multi-line field from rows that two stray
quotes have joined, so multi-line records are flagged unless the mapping allows line breaks. Text
that is not valid in its encoding is flagged too: the reader replaces it by U+FFFD, which could
make two ids equal. One loss cannot be detected: the CSV reader drops NUL characters from a field
that also contains quotes.

JSON lines are read as text, so that a number keeps the digits that were written. The fields of an
object inside a record are columns with a dot in their name: `card.id`.

Folders named `<date column>=<date>` are read only for the dates of the command, so one night reads
one folder. The schemas of Parquet files are merged. A Delta source is read at the version it has
when the command starts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from delta import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.readwriter import DataFrameReader

from jobs.deliveries.files import FILE_PATTERNS
from jobs.deliveries.mapping import Mapping
from jobs.deliveries.nanoseconds import with_microseconds
from jobs.deliveries.source import Delivery, SourceTable
from jobs.lake.commits import newest_version
from jobs.lake.dates import Dates
from jobs.runtime.paths import file_system
from jobs.runtime.sql_names import quoted

# Columns of the frame that `read_source` returns.
RAW = "raw"  # Struct of all source columns, under their own names.
MALFORMED_RECORD = "malformed_record"  # Text of a record that does not fit the header, else null.
IS_MULTILINE = "is_multiline"  # Whether the record spans lines, so it may contain other rows.
HAS_INVALID_UTF8 = "has_invalid_utf8"  # Whether a mapped text column is not valid in its encoding.

# Spark's folder name for rows whose partition date is null.
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
# A line break inside a record. A carriage return at its very end is only a Windows line ending.
_LINE_BREAK = r"\n|\r(?!\z)"
# Characters that Hadoop reads as a glob pattern in a path, escaped for a set in a regular
# expression.
GLOB_CHARACTERS = r"\\\[\]{}*?"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def read_source(
    spark: SparkSession, delivery: Delivery, table: SourceTable, dates: Dates
) -> DataFrame:
    """Read the rows that can belong to these dates, with flags for damaged records.

    Returns:
        The columns `RAW`, `MALFORMED_RECORD`, `IS_MULTILINE` and `HAS_INVALID_UTF8`. Rows of
        other dates are included when the source is not partitioned by date.
    """
    if delivery.format == "delta":
        rows = _typed(_read_delta(spark, table))
    else:
        reader, paths = _reader(spark, delivery, table, dates)
        if delivery.format == "csv":
            rows = _read_csv(reader, paths, delivery.mapping)
        elif delivery.format == "json":
            rows = _read_json(reader, paths)
        else:
            frame = reader.option("mergeSchema", "true").parquet(*map(_escape_glob, paths))
            rows = _typed(with_microseconds(frame, table, paths))
    return rows.withColumn(HAS_INVALID_UTF8, _has_invalid_utf8(rows, table))


def _reader(
    spark: SparkSession, delivery: Delivery, table: SourceTable, dates: Dates
) -> tuple[DataFrameReader, list[str]]:
    """Return a reader of the files of the format, and what it shall read."""
    fs, _ = file_system(table.uri)
    reader = spark.read
    if not fs.isfile(table.uri):
        reader = reader.option("pathGlobFilter", FILE_PATTERNS[delivery.format])
    folders = _date_folders(table, dates)
    if folders:
        reader = reader.option("basePath", table.uri)
    return reader, folders or [table.uri]


def _date_folders(table: SourceTable, dates: Dates) -> list[str]:
    """Return the existing folders `<date column>=<date>` of these dates.

    The list is empty if the source is not partitioned by its date column.
    """
    if table.business_date is None:
        return []
    fs, _ = file_system(table.uri)
    days = [str(dates.first + timedelta(days=offset)) for offset in range(dates.num_nights)]
    names = [f"{table.business_date}={day}" for day in (*days, NULL_PARTITION)]
    return [folder for name in names if fs.exists(folder := f"{table.uri}/{name}")]


# -- formats -------------------------------------------------------------------------------------


def _read_delta(spark: SparkSession, table: SourceTable) -> DataFrame:
    version = newest_version(spark, DeltaTable.forPath(spark, table.uri))
    return spark.read.format("delta").option("versionAsOf", version).load(table.uri)


def _typed(frame: DataFrame) -> DataFrame:
    """Return the rows of a format in which no record can be malformed."""
    return frame.select(
        F.struct("*").alias(RAW),
        F.lit(None).cast("string").alias(MALFORMED_RECORD),
        F.lit(False).alias(IS_MULTILINE),
    )


def _read_csv(reader: DataFrameReader, paths: Sequence[str], mapping: Mapping) -> DataFrame:
    reader = (
        reader.option("header", "true")
        .option("multiLine", "true")
        .option("sep", mapping.format.delimiter)
        .option("encoding", mapping.format.java_encoding)
        .option("escape", '"')
        .option("inferSchema", "false")
    )
    names = reader.csv(list(paths)).columns
    corrupt = _unused_name(names)
    frame = (
        reader.schema(_texts([*names, corrupt]))
        .option("columnNameOfCorruptRecord", corrupt)
        # Read each file by its own header: columns in another order must not be swapped.
        .option("enforceSchema", "false")
        .csv(list(paths))
    )
    columns = [F.col(quoted(name)) for name in names]
    malformed = F.col(corrupt)
    has_line_break = F.concat_ws("", *columns, malformed).rlike(_LINE_BREAK)
    # In a malformed record a line break is suspicious even where the mapping allows them.
    suspicious = malformed.isNotNull() | F.lit(mapping.line_breaks == "refused")
    return frame.select(
        F.struct(*columns).alias(RAW),
        malformed.alias(MALFORMED_RECORD),
        (suspicious & has_line_break).alias(IS_MULTILINE),
    )


def _read_json(reader: DataFrameReader, paths: Sequence[str]) -> DataFrame:
    reader = reader.option("primitivesAsString", "true").option("mode", "PERMISSIVE")
    corrupt = "_malformed_record"
    inferred = reader.option("columnNameOfCorruptRecord", corrupt).json(list(paths)).schema
    fields = [field for field in inferred if field.name != corrupt]
    frame = (
        reader.schema(T.StructType([*fields, T.StructField(corrupt, T.StringType())]))
        .option("columnNameOfCorruptRecord", corrupt)
        .json(list(paths))
    )
    return frame.select(
        F.struct(*_flat(fields)).alias(RAW),
        F.col(corrupt).alias(MALFORMED_RECORD),
        F.lit(False).alias(IS_MULTILINE),
    )


def _flat(fields: Sequence[T.StructField], outer: tuple[str, ...] = ()) -> list[Column]:
    """Return the fields as columns; those of an object have the object's name and a dot before."""
    columns = []
    for field in fields:
        path = (*outer, field.name)
        if isinstance(field.dataType, T.StructType):
            columns += _flat(field.dataType.fields, path)
        else:
            columns.append(F.col(".".join(map(quoted, path))).alias(".".join(path)))
    return columns


def _unused_name(names: Sequence[str]) -> str:
    name = "_malformed_record"
    while name in names:
        name = f"_{name}"
    return name


def _texts(names: Sequence[str]) -> T.StructType:
    return T.StructType([T.StructField(name, T.StringType()) for name in names])


def _has_invalid_utf8(rows: DataFrame, table: SourceTable) -> Column:
    """Return whether a mapped text is not valid UTF-8 or contains a replacement character."""
    types = source_types(rows)
    texts = [
        F.col(RAW).getField(name)
        for name in mapped_types(table, types)
        if isinstance(types[name], T.StringType)
    ]
    any_invalid = F.lit(False)
    for text in texts:
        invalid = ~F.is_valid_utf8(text) | text.contains(_REPLACEMENT)
        any_invalid = any_invalid | F.coalesce(invalid, F.lit(False))
    return any_invalid


# -- names and types -----------------------------------------------------------------------------


def _escape_glob(path: str) -> str:
    r"""Escape the characters of a path that Hadoop would read as a glob pattern.

    >>> _escape_glob("bank[1]/day=*")
    'bank\\[1\\]/day=\\*'
    """
    return re.sub(f"([{GLOB_CHARACTERS}])", r"\\\1", path)


def source_types(raw: DataFrame) -> dict[str, T.DataType]:
    """Return the Spark type of each source column."""
    fields = raw.schema[RAW].dataType
    assert isinstance(fields, T.StructType)
    return {column.name: column.dataType for column in fields}


def mapped_types(table: SourceTable, types: dict[str, T.DataType]) -> dict[str, str]:
    """Return the types of the mapped columns as text, in the form that `runs` records."""
    names: Sequence[str] = [name for name, _ in table.roles]
    return {name: types[name].simpleString() for name in names if name in types}
