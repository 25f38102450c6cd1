"""The headers of CSV files: all alike, no column twice, and what a wrong one says of the mapping.

Spark checks headers too, but its errors and logs quote the first line. In a file without a header,
this line is a row with ids. These checks name only the files.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping as Entries
from collections.abc import Sequence

import fsspec
from fsspec.utils import infer_compression

from feature_defs.errors import UsageError
from jobs.deliveries.reading import GLOB_CHARACTERS
from jobs.deliveries.source import SourceTable
from jobs.deliveries.text_format import TextFormat

MAX_HEADER_CHARACTERS = 1 << 20
MAX_FILES_NAMED = 5
# What separates columns in practice.
DELIMITERS = (";", "\t", "|", ",")
# Byte order marks, the longer ones first, and the encoding that each stands for.
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8"),
)

Header = tuple[str, ...]


def check_headers(
    fs: fsspec.AbstractFileSystem,
    files: Entries[SourceTable, Sequence[str]],
    written: TextFormat,
) -> None:
    """Check names and headers of all CSV files of a delivery.

    Raises:
        UsageError: a name is a glob pattern, headers of a table differ or repeat a mapped column,
            or the files have another encoding or delimiter than the mapping says; correct the
            files or the key of `[format]` that the message names.
    """
    _check_names([file for table_files in files.values() for file in table_files])
    for table, table_files in files.items():
        readable = [file for file in table_files if _has_readable_compression(file)]
        _check_encoding(fs, table, readable, written)
        headers = {file: header for file in readable if (header := _header(fs, file, written))}
        _check_no_repeated_columns(table, headers)
        _check_same(table, headers)
        if headers:
            _check_delimiter(table, next(iter(headers.values())), written)


def _check_names(files: Sequence[str]) -> None:
    """Check that no path of a CSV file is a glob pattern: Spark would read the files it matches."""
    patterns = [file for file in files if re.search(f"[{GLOB_CHARACTERS}]", file)]
    if patterns:
        raise UsageError(
            f"The names of {len(patterns)} CSV files contain one of the characters "
            f"[ ] {{ }} * ? \\: {', '.join(patterns[:MAX_FILES_NAMED])}.",
            expected="names that Spark does not read as glob patterns.",
            remedy="rename the files or their folder, or deliver Parquet.",
        )


def _check_same(table: SourceTable, headers: Entries[str, Header]) -> None:
    """Check that all CSV files of a table have the same header."""
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


def _check_no_repeated_columns(table: SourceTable, headers: Entries[str, Header]) -> None:
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


def _check_encoding(
    fs: fsspec.AbstractFileSystem, table: SourceTable, files: Sequence[str], written: TextFormat
) -> None:
    """Check that the byte order mark of a file, if it has one, is that of the mapping's encoding.

    UTF-16 read as UTF-8 has a NUL between any two letters, so no column would be found.
    """
    marked = {file: mark for file in files if (mark := byte_order_mark(fs, file))}
    wrong = {f: mark for f, mark in marked.items() if not written.java_encoding.startswith(mark)}
    if wrong:
        file, mark = next(iter(wrong.items()))
        raise UsageError(
            f"{len(wrong)} files of {table.uri} begin like {mark.upper()}: {file}.",
            expected=f"files in {written.encoding}, as the mapping says.",
            remedy=f'set `encoding = "{mark}"` in the section [format] of the mapping.',
        )


def _check_delimiter(table: SourceTable, header: Header, written: TextFormat) -> None:
    """Check that a header of one column does not contain what usually separates columns."""
    if len(header) > 1:
        return
    found = [sign for sign in DELIMITERS if sign in header[0] and sign != written.delimiter]
    if found:
        shown = "\\t" if found[0] == "\t" else found[0]
        raise UsageError(
            f"The header of {table.uri} is one column for the delimiter {written.delimiter!r}, and "
            f"it contains {shown!r}.",
            expected="several columns.",
            remedy=f'set `delimiter = "{shown}"` in the section [format] of the mapping.',
        )


def byte_order_mark(fs: fsspec.AbstractFileSystem, file: str) -> str | None:
    """Return the encoding whose byte order mark a file begins with; None without a mark."""
    with fs.open(file, "rb", compression="infer") as opened:
        start = opened.read(4)
    return next((encoding for mark, encoding in _MARKS if start.startswith(mark)), None)


def _has_readable_compression(file: str) -> bool:
    return infer_compression(file) in (None, "gzip", "bz2")


def _header(fs: fsspec.AbstractFileSystem, file: str, written: TextFormat) -> Header:
    """Return the column names in lower case, as Spark compares them; () for an empty file."""
    encoding = "utf-8-sig" if written.java_encoding == "utf-8" else written.encoding
    with fs.open(file, "rb", compression="infer") as opened:
        text = io.TextIOWrapper(opened, encoding=encoding, errors="replace", newline="\n")
        line = text.readline(MAX_HEADER_CHARACTERS)
    rows = csv.reader([line.rstrip("\r\n")], delimiter=written.delimiter)
    return tuple(name.lower() for name in next(rows, ()))
