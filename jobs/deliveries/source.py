"""A delivery: where it is, what is needed of it, and its rows as the source has them.

CSV is read as text, with a header, quotes that may span lines, and records that do not fit kept
for the quarantine. No reader can tell a field of several lines from rows that two stray quotes
have joined, so such records are marked, unless the mapping vouches for the source. Text that is
no UTF-8 is marked too: the CSV reader puts U+FFFD in its place, and two ids would look alike.
What cannot be seen any more: the CSV reader drops NULs from a field that also holds quotes.

Parquet folders of the form `<date column>=<date>` are read for the dates of the command only, so
a night costs a night; their files' schemas are merged. A Delta source is read at the version it
has when the command begins.
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
from jobs.lake.dates import Dates
from jobs.runtime.paths import file_system, uri_of

Format = Literal["delta", "parquet", "csv"]
# Text that Spark gives for the folder of rows without a date.
NO_DATE = "__HIVE_DEFAULT_PARTITION__"

_TEXT = (T.StringType,)
_WHOLE = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_NUMBER = (*_WHOLE, T.FloatType, T.DoubleType, T.DecimalType)
_TIME = (T.TimestampType, T.TimestampNTZType)
USABLE: dict[str, tuple[type[T.DataType], ...]] = {
    "id": _TEXT + _WHOLE + (T.DecimalType,),
    "time": _TEXT + _TIME,
    "date": (*_TEXT, *_TIME, T.DateType),
    "amount": _TEXT + _NUMBER,
    "flag": (*_TEXT, *_NUMBER, T.BooleanType),
    "numeric": _TEXT + _NUMBER,
    "categorical": (*_TEXT, *_WHOLE, T.BooleanType),
}
ATTRIBUTE_TYPES = {"numeric": "double", "categorical": "string"}

# A line that ends inside a record; at its very end a carriage return is only a Windows line end.
_LINE_END = r"\n|\r(?!\z)"
# What Hadoop takes for a pattern in the name of a place, as a set of a regular expression.
PATTERN_SIGNS = r"\\\[\]{}*?"
_NOT_TEXT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Delivery:
    """What `ingest` is told: where rows come from and what they mean."""

    source: str
    format: Format
    mapping: Mapping
    allow_empty: bool = False
    """Whether a night without a row is published, rather than failing gate 1."""

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise UsageError(
                f"There is no format {self.format!r}.",
                expected=f"one of {', '.join(get_args(Format))}.",
                remedy="correct --format.",
            )

    @property
    def uri(self) -> str:
        """The source without a slash at its end; local paths are absolute."""
        return uri_of(self.source)

    def place(self, path: str) -> str:
        """A place under the source; an empty path is the source itself."""
        return f"{self.uri}/{path}" if path else self.uri

    @property
    def arguments(self) -> dict[str, object]:
        """What `runs` keeps, enough to do it again."""
        return {
            "source": self.uri,
            "format": self.format,
            "mapping": self.mapping.name,
            "mapping_content": self.mapping.model_dump_json(),
            "allow_empty": self.allow_empty,
        }


@dataclass(frozen=True)
class SourceTable:
    """The transactions or the labels of a delivery, and the columns needed of them."""

    kind: Literal["transactions", "labels"]
    place: str
    business_date: str | None
    """The source column; unset: the event's own date."""
    roles: tuple[tuple[str, str], ...]
    """Source column and what it is used as, a key of `USABLE`."""

    @property
    def label(self) -> str:
        """What the quarantine calls it."""
        return f"{self.place}#{self.kind}"


def transactions_of(delivery: Delivery) -> SourceTable:
    """The delivery's transactions."""
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
        delivery.place(part.path),
        None if by_event else part.business_date,
        tuple(roles),
    )


def labels_of(delivery: Delivery) -> SourceTable | None:
    """The delivery's labels, when they have a source of their own."""
    labels = delivery.mapping.labels
    if labels is None or labels.path is None or labels.business_date is None:
        return None
    roles = (*_label_roles(delivery.mapping), (labels.business_date, "date"))
    return SourceTable("labels", delivery.place(labels.path), labels.business_date, roles)


def _label_roles(mapping: Mapping) -> list[tuple[str, str]]:
    assert mapping.labels is not None
    columns = mapping.labels.columns
    wanted = [
        (columns.transaction_id, "id"),
        (columns.is_fraud, "flag"),
        (columns.label_time, "time"),
        (columns.source, "categorical"),
    ]
    return [(name, role) for name, role in wanted if name is not None]


# -- reading -------------------------------------------------------------------------------------


def read_source(
    spark: SparkSession, delivery: Delivery, table: SourceTable, dates: Dates
) -> DataFrame:
    """Rows that may be of these dates: `raw` (a struct of their columns), and what ails them.

    `malformed_record` is the text of a record that does not fit the header, `of_many_lines` says
    that a record may hold other rows, `text_unreadable` that a mapped column is no UTF-8.
    """
    if delivery.format == "csv":
        rows = _read_csv(spark, table.place, may_break=delivery.mapping.line_breaks == "allowed")
    else:
        rows = _read_typed(spark, delivery, table, dates)
    return rows.withColumn("text_unreadable", _unreadable(rows, table))


def _read_typed(
    spark: SparkSession, delivery: Delivery, table: SourceTable, dates: Dates
) -> DataFrame:
    if delivery.format == "delta":
        version = DeltaTable.forPath(spark, table.place).history(1).collect()[0]["version"]
        frame = spark.read.format("delta").option("versionAsOf", version).load(table.place)
    else:
        reader = spark.read.option("mergeSchema", "true")
        folders = _folders_of(table, dates)
        if folders:
            reader = reader.option("basePath", table.place)
        frame = reader.parquet(*map(_literal, folders or [table.place]))
    nothing = F.lit(None).cast("string")
    return frame.select(
        F.struct("*").alias("raw"),
        nothing.alias("malformed_record"),
        F.lit(False).alias("of_many_lines"),
    )


def _unreadable(rows: DataFrame, table: SourceTable) -> Column:
    """Whether a mapped text is no UTF-8, or holds the sign that a reader put for such bytes."""
    types = source_types(rows)
    texts = [
        F.col("raw").getField(name)
        for name in mapped_types(table, types)
        if isinstance(types[name], T.StringType)
    ]
    wrong = F.lit(False)
    for text in texts:
        bad = ~F.is_valid_utf8(text) | text.contains(_NOT_TEXT)
        wrong = wrong | F.coalesce(bad, F.lit(False))
    return wrong


def _read_csv(spark: SparkSession, place: str, *, may_break: bool) -> DataFrame:
    reader = (
        spark.read.option("header", "true")
        .option("multiLine", "true")
        .option("escape", '"')
        .option("inferSchema", "false")
    )
    header = reader.csv(place).schema
    broken = "_malformed_record"
    while broken in header.fieldNames():
        broken = f"_{broken}"
    texts = [T.StructField(name, T.StringType()) for name in header.fieldNames()]
    frame = (
        reader.schema(T.StructType([*texts, T.StructField(broken, T.StringType())]))
        .option("columnNameOfCorruptRecord", broken)
        # Each file's own header counts: columns in another order must not change places.
        .option("enforceSchema", "false")
        .csv(place)
    )
    columns = [F.col(quoted(name)) for name in header.fieldNames()]
    malformed = F.col(broken)
    breaks = F.concat_ws("", *columns, malformed).rlike(_LINE_END)
    return frame.select(
        F.struct(*columns).alias("raw"),
        malformed.alias("malformed_record"),
        ((malformed.isNotNull() | F.lit(not may_break)) & breaks).alias("of_many_lines"),
    )


def _literal(place: str) -> str:
    r"""A place as Hadoop reads it when its name holds signs of a pattern.

    >>> _literal("bank[1]/day=*")
    'bank\\[1\\]/day=\\*'
    """
    return re.sub(f"([{PATTERN_SIGNS}])", r"\\\1", place)


def quoted(name: str) -> str:
    """A column's name as Spark reads it whole, whatever it holds.

    >>> quoted("a.b`c")
    '`a.b``c`'
    """
    return "`" + name.replace("`", "``") + "`"


def _folders_of(table: SourceTable, dates: Dates) -> list[str]:
    """Folders `<date column>=<date>` of these dates; none in a source laid out otherwise."""
    if table.business_date is None:
        return []
    fs, _ = file_system(table.place)
    days = [str(dates.first + timedelta(days=offset)) for offset in range(dates.num_nights)]
    names = [f"{table.business_date}={day}" for day in (*days, NO_DATE)]
    return [place for name in names if fs.exists(place := f"{table.place}/{name}")]


def source_types(raw: DataFrame) -> dict[str, T.DataType]:
    """Types of the source's columns."""
    fields = raw.schema["raw"].dataType
    assert isinstance(fields, T.StructType)
    return {column.name: column.dataType for column in fields}


def mapped_types(table: SourceTable, types: dict[str, T.DataType]) -> dict[str, str]:
    """Types of the mapped columns, as `runs` keeps them."""
    names: Sequence[str] = [name for name, _ in table.roles]
    return {name: types[name].simpleString() for name in names if name in types}
