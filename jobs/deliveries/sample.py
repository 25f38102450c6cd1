"""The first rows of a delivery as texts, and how a CSV file seems to be written.

For `fraud-scoring mapping` only: `ingest` reads whole deliveries through Spark (`reading.py`).
"""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from feature_defs.errors import InputMissing, UsageError
from jobs.deliveries.csv_headers import DELIMITERS, byte_order_mark
from jobs.deliveries.files import list_files
from jobs.runtime.paths import file_system, uri_of

MAX_ROWS = 10_000
MAX_SNIFFED_BYTES = 1 << 20
# What is tried in turn when a file has no byte order mark; the last one reads any bytes.
ENCODINGS = ("utf-8", "cp1252", "latin-1")


@dataclass(frozen=True)
class Sample:
    """The first rows of a source."""

    file: str
    """The file that was looked at."""
    columns: dict[str, list[str | None]]
    """The texts of each column, `None` for a missing value."""
    types: dict[str, str]
    """The type of each column as the file declares it; `text` in CSV and JSON."""
    delimiter: str = ","
    encoding: str = "utf-8"
    partition: str | None = None
    """Column that folders are named by (`day=2024-03-05`); None without such folders."""

    @property
    def num_rows(self) -> int:
        """Return the number of rows that were looked at."""
        return max(map(len, self.columns.values()), default=0)


def read_sample(source: str, file_format: str) -> Sample:
    """Return up to `MAX_ROWS` rows of the first file of a source.

    Raises:
        InputMissing: the source has no file of this format; correct --source or --format.
        UsageError: the file cannot be read in this format; correct --format.
    """
    uri = uri_of(source)
    fs, _ = file_system(uri)
    # A Delta table is a folder of Parquet files: enough to see its columns.
    file_type = "parquet" if file_format == "delta" else file_format
    files = list_files(fs, uri, file_type).data
    if not files:
        raise InputMissing(
            f"{uri} does not exist or has no {file_type} files.",
            expected="a data file, or a folder with data files.",
            remedy="correct --source or --format.",
        )
    file = files[-1]
    try:
        read = {"csv": _read_csv, "json": _read_json, "parquet": _read_parquet}[file_type]
        sample = read(fs, file)
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise UsageError(
            f"{file} cannot be read as {file_type}: {type(error).__name__}.",
            expected=f"a {file_type} file.",
            remedy="correct --format.",
        ) from None
    folders = [part for part in file.split("/") if "=" in part]
    return Sample(**{**vars(sample), "partition": folders[-1].split("=")[0] if folders else None})


def _read_csv(fs: fsspec.AbstractFileSystem, file: str) -> Sample:
    encoding = byte_order_mark(fs, file) or _encoding(fs, file)
    decoder = "utf-8-sig" if encoding == "utf-8" else encoding
    with fs.open(file, "rb", compression="infer") as opened:
        text = io.TextIOWrapper(opened, encoding=decoder, newline="")
        lines = itertools.islice(text, MAX_ROWS + 1)
        first = next(lines, "")
        delimiter = max(DELIMITERS, key=first.count)
        rows = csv.reader(itertools.chain([first], lines), delimiter=delimiter)
        header = next(rows, [])
        columns: dict[str, list[str | None]] = {name: [] for name in header}
        for row in rows:
            for name, value in zip(header, row, strict=False):
                columns[name].append(value if value.strip() else None)
    return Sample(file, columns, dict.fromkeys(columns, "text"), delimiter, encoding)


def _encoding(fs: fsspec.AbstractFileSystem, file: str) -> str:
    """Return the first of `ENCODINGS` that reads the beginning of a file."""
    with fs.open(file, "rb", compression="infer") as opened:
        start = opened.read(MAX_SNIFFED_BYTES)
    # The last line may end in the middle of a character.
    whole = start[: start.rfind(b"\n") + 1] or start
    for encoding in ENCODINGS:
        try:
            whole.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    raise AssertionError("latin-1 reads any bytes")


def _read_json(fs: fsspec.AbstractFileSystem, file: str) -> Sample:
    columns: dict[str, list[str | None]] = {}
    with fs.open(file, "rb", compression="infer") as opened:
        text = io.TextIOWrapper(opened, encoding="utf-8")
        for nth, line in enumerate(itertools.islice(text, MAX_ROWS)):
            record = json.loads(line, parse_float=str, parse_int=str)
            for name, value in _flat(record).items():
                values = columns.setdefault(name, [])
                values += [None] * (nth - len(values))
                values.append(None if value is None else str(value))
    return Sample(file, columns, dict.fromkeys(columns, "text"))


def _flat(record: Any, outer: str = "") -> dict[str, Any]:
    """Return the fields of a record; those of an inner object with a dot in their name."""
    if not isinstance(record, dict):
        raise ValueError("a line is not an object")
    fields: dict[str, Any] = {}
    for name, value in record.items():
        inner = isinstance(value, dict)
        fields |= _flat(value, f"{outer}{name}.") if inner else {f"{outer}{name}": value}
    return fields


def _read_parquet(fs: fsspec.AbstractFileSystem, file: str) -> Sample:
    with fs.open(file, "rb") as opened:
        parquet = pq.ParquetFile(opened)
        batch = next(parquet.iter_batches(MAX_ROWS), None)
        schema = parquet.schema_arrow
    columns: dict[str, list[str | None]] = {name: [] for name in schema.names}
    for name in schema.names:
        if batch is None:
            continue
        values = batch.column(name)
        if pa.types.is_timestamp(values.type):
            # Python's times have no nanoseconds.
            values = values.cast(pa.timestamp("us", values.type.tz), safe=False)
        columns[name] = [None if value is None else str(value) for value in values.to_pylist()]
    return Sample(file, columns, {field.name: str(field.type) for field in schema})
