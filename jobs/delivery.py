"""A delivery: where it is, whether it is ready, and its rows as the source has them.

CSV is read as text, with a header, quotes that may span lines, and records that do not fit kept
for the quarantine. Parquet folders of the form `<date column>=<date>` are read for the dates of
the command only, so a night costs a night; their files' schemas are merged. A Delta source is
read at the version it has when the command begins.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, get_args

import fsspec
from delta import DeltaTable
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_defs.problems import InputMissing, UsageProblem
from feature_defs.sources import TRANSACTIONS, LabelPolicy
from jobs.lake.delta_io import Dates, Lake
from jobs.lake.runs import Run
from jobs.lake.tables import NIGHTS, RUNS
from jobs.lake.tables import TRANSACTIONS as TRANSACTIONS_TABLE
from jobs.mapping import EVENT_DATE, Mapping
from jobs.quality.pseudonyms import check_key

Format = Literal["delta", "parquet", "csv"]
UNREADABLE = (PySparkException, Py4JJavaError)
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
            raise UsageProblem(
                f"There is no format {self.format!r}.",
                expected=f"one of {', '.join(get_args(Format))}.",
                remedy="correct --format.",
            )

    @property
    def uri(self) -> str:
        """The source without a slash at its end; local paths are absolute."""
        fs, path = fsspec.core.url_to_fs(self.source)
        local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
        return (str(path) if local else self.source).rstrip("/")

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
    """All rows that may be of these dates: `raw` (a struct of the columns) and `malformed`."""
    if delivery.format == "csv":
        return _read_csv(spark, table.place)
    if delivery.format == "delta":
        version = DeltaTable.forPath(spark, table.place).history(1).collect()[0]["version"]
        frame = spark.read.format("delta").option("versionAsOf", version).load(table.place)
    else:
        reader = spark.read.option("mergeSchema", "true")
        folders = _folders_of(table, dates)
        if folders:
            reader = reader.option("basePath", table.place)
        frame = reader.parquet(*(folders or [table.place]))
    return frame.select(F.struct("*").alias("raw"), F.lit(False).alias("malformed"))


def _read_csv(spark: SparkSession, place: str) -> DataFrame:
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
    return frame.select(F.struct("*").alias("raw"), F.col(broken).isNotNull().alias("malformed"))


def _folders_of(table: SourceTable, dates: Dates) -> list[str]:
    """Folders `<date column>=<date>` of these dates; none in a source laid out otherwise."""
    if table.business_date is None:
        return []
    fs, _ = fsspec.core.url_to_fs(table.place)
    days = [str(dates.first + timedelta(days=offset)) for offset in range(dates.num_nights)]
    names = [f"{table.business_date}={day}" for day in (*days, NO_DATE)]
    return [place for name in names if fs.exists(place := f"{table.place}/{name}")]


# -- readiness -----------------------------------------------------------------------------------


def check_ready(lake: Lake, delivery: Delivery, dates: Dates) -> None:
    """Check all that can be checked before a night is taken; nothing is written.

    Raises:
        InputMissing: the delivery is not there, or not marked complete for a date.
        UsageProblem: columns are missing or have changed their type (all are named), or the
            mapping asks for pseudonyms and there is no key.
    """
    if delivery.mapping.pseudonymise:
        check_key(lake.settings.pseudonym_key)
    _check_there(delivery, dates)
    before = _types_before(lake, delivery)
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
        raise UsageProblem(
            f"The delivery {delivery.uri} does not fit the mapping {delivery.mapping.name}: "
            f"{'; '.join(found)}.",
            expected="the columns that the mapping names, with the types they had before.",
            remedy="mend the delivery, or write a mapping with a new name for its new form.",
        )


def _tables(delivery: Delivery) -> list[SourceTable]:
    labels = labels_of(delivery)
    return [transactions_of(delivery)] + ([labels] if labels else [])


def _check_there(delivery: Delivery, dates: Dates) -> None:
    fs, _ = fsspec.core.url_to_fs(delivery.uri)
    absent = [table.place for table in _tables(delivery) if not fs.exists(table.place)]
    if absent:
        raise InputMissing(
            f"The delivery is not there: {', '.join(absent)}.",
            expected="a folder or file of the source.",
            remedy="wait for the delivery, or correct --source.",
        )
    if delivery.format == "delta":
        _check_delta(delivery)
    readiness = delivery.mapping.readiness
    if readiness is None:
        return
    days = [str(dates.first + timedelta(days=offset)) for offset in range(dates.num_nights)]
    marks = {day: readiness.marker.replace("{business_date}", day) for day in days}
    open_ = [day for day, mark in marks.items() if not fs.exists(delivery.place(mark))]
    if open_:
        raise InputMissing(
            f"The delivery {delivery.uri} is not marked complete for {', '.join(open_)}.",
            expected=f"a file {readiness.marker} for each date.",
            remedy="wait until the delivery is complete and start again.",
        )


def _check_delta(delivery: Delivery) -> None:
    fs, _ = fsspec.core.url_to_fs(delivery.uri)
    others = [t.place for t in _tables(delivery) if not fs.exists(f"{t.place}/_delta_log")]
    if others:
        raise UsageProblem(
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
        raise UsageProblem(
            f"The files of {table.place} disagree about the type of a column: {first_line(error)}",
            expected="one type for each column in all files of a command's dates.",
            remedy="deliver the files again, or ingest the dates around the change apart.",
        ) from None


def source_types(raw: DataFrame) -> dict[str, T.DataType]:
    """Types of the source's columns."""
    fields = raw.schema["raw"].dataType
    assert isinstance(fields, T.StructType)
    return {column.name: column.dataType for column in fields}


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


def first_line(error: BaseException) -> str:
    """What an error of Spark says in one line: its innermost cause."""
    text = str(error)
    causes = [line for line in text.splitlines() if line.startswith("Caused by: ")]
    line = causes[-1].removeprefix("Caused by: ") if causes else text.strip().split("\n", 1)[0]
    return line[:500]


# -- what the lake remembers ---------------------------------------------------------------------


def recorded_delivery(lake: Lake) -> Delivery:
    """The delivery that the lake's first `ingest` recorded.

    Raises:
        InputMissing: nothing was ever ingested.
    """
    rows = (
        lake.read(RUNS)
        .where((F.col("job") == "ingest") & (F.col("status") == "done"))
        .orderBy("started_at")
        .select("arguments")
        .head(1)
    )
    if rows:
        return _delivery(json.loads(rows[0]["arguments"]))
    newest = newest_ingest(lake)
    if newest is None:
        raise InputMissing(
            f"The lake {lake.uri} has no record of an `ingest`, so there is no source to go by.",
            expected="a source in the configuration, or a lake with an earlier `ingest`.",
            remedy="run `fraud-scoring ingest --source … --format … --mapping …` first.",
        )
    return _delivery(newest.arguments)


def _delivery(arguments: dict[str, object]) -> Delivery:
    mapping = Mapping.model_validate_json(str(arguments["mapping_content"]))
    return Delivery(str(arguments["source"]), arguments["format"], mapping)  # type: ignore[arg-type]


def label_policy(lake: Lake) -> LabelPolicy:
    """What the absence of a label means, by the mapping of the newest `ingest`."""
    newest = newest_ingest(lake)
    return _delivery(newest.arguments).mapping.label_policy if newest else LabelPolicy()


def newest_ingest(lake: Lake) -> Run | None:
    """Record of the newest `ingest` that is done; `nights` has it before `runs` does."""
    record = F.col("jobs")["ingest"]
    started = F.get_json_object(record, "$.started_at")
    newest = lake.read(NIGHTS).agg(F.max_by(record, started).alias("record")).head()
    return Run.from_json(newest["record"]) if newest and newest["record"] else None


def _types_before(lake: Lake, delivery: Delivery) -> dict[str, dict[str, str]]:
    """Types of the mapped columns when this mapping was last used with this format."""
    newest = newest_ingest(lake) if lake.is_lake() else None
    if newest is None:
        return {}
    arguments = newest.arguments
    if (arguments["mapping"], arguments["format"]) != (delivery.mapping.name, delivery.format):
        return {}
    types: dict[str, dict[str, str]] = newest.figures.get("source_types", {})
    return types


def mapped_types(table: SourceTable, types: dict[str, T.DataType]) -> dict[str, str]:
    """Types of the mapped columns, as `runs` keeps them."""
    names: Sequence[str] = [name for name, _ in table.roles]
    return {name: types[name].simpleString() for name in names if name in types}
