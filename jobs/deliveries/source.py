"""A delivery: its location, the columns that we need, and its rows as the source stores them.

The formats are Delta, Parquet and CSV (`Format`).

CSV is read as text with a header. Quoted fields may span lines. Records that do not fit the
header are kept for the quarantine. No reader can tell a multi-line field from rows that two stray
quotes have joined, so multi-line records are flagged unless the mapping allows line breaks. Text
that is not valid UTF-8 is flagged too: the CSV reader replaces it by U+FFFD, which could make two
ids equal. One loss cannot be detected: the CSV reader drops NUL characters from a field that also
contains quotes.

Parquet folders named `<date column>=<date>` are read only for the dates of the command, so one
night reads one folder. The schemas of their files are merged. A Delta source is read at the
version it has when the command starts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

from delta import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_defs.errors import UsageError
from jobs.deliveries.mapping import EVENT_DATE, Mapping
from jobs.lake.commits import newest_version
from jobs.lake.dates import Dates
from jobs.runtime.paths import file_system, uri_of

# The formats that a source may have, as `--format` and the setting `source_format` write them.
Format = Literal["delta", "parquet", "csv"]
# Columns of the frame that `read_source` returns.
RAW = "raw"  # Struct of all source columns, under their own names.
MALFORMED_RECORD = "malformed_record"  # Text of a record that does not fit the header, else null.
IS_MULTILINE = "is_multiline"  # Whether the record spans lines, so it may contain other rows.
HAS_INVALID_UTF8 = "has_invalid_utf8"  # Whether a mapped text column is not valid UTF-8.

# Spark's folder name for rows whose partition date is null.
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"

_TEXT = (T.StringType,)
_WHOLE = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_NUMBER = (*_WHOLE, T.FloatType, T.DoubleType, T.DecimalType)
_TIME = (T.TimestampType, T.TimestampNTZType)
# Source types that a column may have, by its role.
ALLOWED_TYPES: dict[str, tuple[type[T.DataType], ...]] = {
    "id": _TEXT + _WHOLE + (T.DecimalType,),
    "time": _TEXT + _TIME,
    "date": (*_TEXT, *_TIME, T.DateType),
    "amount": _TEXT + _NUMBER,
    "flag": (*_TEXT, *_NUMBER, T.BooleanType),
    "numeric": _TEXT + _NUMBER,
    "categorical": (*_TEXT, *_WHOLE, T.BooleanType),
}
# Types of attribute columns in our table, by kind of attribute.
ATTRIBUTE_TYPES = {"numeric": "double", "categorical": "string"}

# A line break inside a record. A carriage return at its very end is only a Windows line ending.
_LINE_BREAK = r"\n|\r(?!\z)"
# Characters that Hadoop reads as a glob pattern in a path, escaped for a set in a regular
# expression.
GLOB_CHARACTERS = r"\\\[\]{}*?"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Delivery:
    """The input of `ingest`: a source, its format and its mapping."""

    source: str
    format: Format
    mapping: Mapping
    allow_empty: bool = False
    """Whether a night without rows is published; otherwise it fails gate 1."""

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise UsageError(
                f"The format {self.format!r} is not supported.",
                expected=f"one of {', '.join(get_args(Format))}.",
                remedy="correct --format.",
            )

    @property
    def uri(self) -> str:
        """Return the URI of the source without a slash at its end; local paths are absolute."""
        return uri_of(self.source)

    def uri_below(self, path: str) -> str:
        """Return the URI of a path below the source; of the source itself for an empty path."""
        return f"{self.uri}/{path}" if path else self.uri

    @property
    def arguments(self) -> dict[str, object]:
        """Return what `runs` records of the delivery: enough to run `ingest` again."""
        return {
            "source": self.uri,
            "format": self.format,
            "mapping": self.mapping.name,
            "mapping_content": self.mapping.model_dump_json(),
            "allow_empty": self.allow_empty,
        }


@dataclass(frozen=True)
class SourceTable:
    """The transactions or the labels of a delivery, and the columns that we need."""

    kind: Literal["transactions", "labels"]
    uri: str
    business_date: str | None
    """Source column of the business date; unset for the date of the event."""
    roles: tuple[tuple[str, str], ...]
    """Each needed source column with its role, a key of `ALLOWED_TYPES`."""

    @property
    def quarantine_source(self) -> str:
        """Return the value of the column `source` in the table `quarantine`."""
        return f"{self.uri}#{self.kind}"


def transactions_of(delivery: Delivery) -> SourceTable:
    """Return the source table of the delivery's transactions."""
    mapping = delivery.mapping
    part, columns = mapping.transactions, mapping.transactions.columns
    by_event = part.business_date == EVENT_DATE
    roles = [
        (getattr(columns, name), "id") for name in ("transaction_id", "card_id", "merchant_id")
    ]
    roles += [(columns.event_time, "time"), (columns.amount, "amount")]
    roles += [] if by_event else [(part.business_date, "date")]
    roles += list(part.attributes.items())
    if mapping.labels and mapping.labels.path is None:
        roles += _label_roles(mapping)
    return SourceTable(
        "transactions",
        delivery.uri_below(part.path),
        None if by_event else part.business_date,
        tuple(roles),
    )


def labels_of(delivery: Delivery) -> SourceTable | None:
    """Return the separate source table of the delivery's labels; None if there is none."""
    labels = delivery.mapping.labels
    if labels is None or labels.path is None or labels.business_date is None:
        return None
    roles = (*_label_roles(delivery.mapping), (labels.business_date, "date"))
    return SourceTable("labels", delivery.uri_below(labels.path), labels.business_date, roles)


def _label_roles(mapping: Mapping) -> list[tuple[str, str]]:
    assert mapping.labels is not None
    columns = mapping.labels.columns
    roles = [
        (columns.transaction_id, "id"),
        (columns.is_fraud, "flag"),
        (columns.label_time, "time"),
        (columns.source, "categorical"),
    ]
    return [(name, role) for name, role in roles if name is not None]


# -- reading -------------------------------------------------------------------------------------


def read_source(
    spark: SparkSession, delivery: Delivery, table: SourceTable, dates: Dates
) -> DataFrame:
    """Read the rows that can belong to these dates, with flags for damaged records.

    Returns:
        The columns `RAW`, `MALFORMED_RECORD`, `IS_MULTILINE` and `HAS_INVALID_UTF8`. Rows of
        other dates are included when the source is not partitioned by date.
    """
    if delivery.format == "csv":
        rows = _read_csv(spark, table.uri, delivery.mapping)
    else:
        rows = _read_typed(spark, delivery, table, dates)
    return rows.withColumn(HAS_INVALID_UTF8, _has_invalid_utf8(rows, table))


def _read_typed(
    spark: SparkSession, delivery: Delivery, table: SourceTable, dates: Dates
) -> DataFrame:
    if delivery.format == "delta":
        version = newest_version(spark, DeltaTable.forPath(spark, table.uri))
        frame = spark.read.format("delta").option("versionAsOf", version).load(table.uri)
    else:
        reader = spark.read.option("mergeSchema", "true")
        folders = _date_folders(table, dates)
        if folders:
            reader = reader.option("basePath", table.uri)
        frame = reader.parquet(*map(_escape_glob, folders or [table.uri]))
    return frame.select(
        F.struct("*").alias(RAW),
        F.lit(None).cast("string").alias(MALFORMED_RECORD),
        F.lit(False).alias(IS_MULTILINE),
    )


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


def _read_csv(spark: SparkSession, uri: str, mapping: Mapping) -> DataFrame:
    reader = (
        spark.read.option("header", "true")
        .option("multiLine", "true")
        .option("escape", '"')
        .option("inferSchema", "false")
    )
    header = reader.csv(uri).schema
    corrupt = "_malformed_record"
    while corrupt in header.fieldNames():
        corrupt = f"_{corrupt}"
    texts = [T.StructField(name, T.StringType()) for name in header.fieldNames()]
    frame = (
        reader.schema(T.StructType([*texts, T.StructField(corrupt, T.StringType())]))
        .option("columnNameOfCorruptRecord", corrupt)
        # Read each file by its own header: columns in another order must not be swapped.
        .option("enforceSchema", "false")
        .csv(uri)
    )
    columns = [F.col(quoted(name)) for name in header.fieldNames()]
    malformed = F.col(corrupt)
    has_line_break = F.concat_ws("", *columns, malformed).rlike(_LINE_BREAK)
    # In a malformed record a line break is suspicious even where the mapping allows them.
    suspicious = malformed.isNotNull() | F.lit(mapping.line_breaks == "refused")
    return frame.select(
        F.struct(*columns).alias(RAW),
        malformed.alias(MALFORMED_RECORD),
        (suspicious & has_line_break).alias(IS_MULTILINE),
    )


def _escape_glob(path: str) -> str:
    r"""Escape the characters of a path that Hadoop would read as a glob pattern.

    >>> _escape_glob("bank[1]/day=*")
    'bank\\[1\\]/day=\\*'
    """
    return re.sub(f"([{GLOB_CHARACTERS}])", r"\\\1", path)


def quoted(name: str) -> str:
    """Quote a column name for Spark, whatever characters it contains.

    >>> quoted("a.b`c")
    '`a.b``c`'
    """
    return "`" + name.replace("`", "``") + "`"


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


def source_types(raw: DataFrame) -> dict[str, T.DataType]:
    """Return the Spark type of each source column."""
    fields = raw.schema[RAW].dataType
    assert isinstance(fields, T.StructType)
    return {column.name: column.dataType for column in fields}


def mapped_types(table: SourceTable, types: dict[str, T.DataType]) -> dict[str, str]:
    """Return the types of the mapped columns as text, in the form that `runs` records."""
    names: Sequence[str] = [name for name, _ in table.roles]
    return {name: types[name].simpleString() for name in names if name in types}
