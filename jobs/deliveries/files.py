"""The files of a delivery: which are read, and which only lie beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import fsspec

# Which names in a folder are files of the format, as a glob pattern of Hadoop. A source that is
# one file may have any name.
FILE_PATTERNS = {
    "csv": "*.[cC][sS][vV]*",
    "json": "*.{json,jsonl,ndjson,JSON,JSONL,NDJSON}*",
    "parquet": "*.parquet",
}


@dataclass(frozen=True)
class Files:
    """The files of a source table."""

    data: tuple[str, ...]
    """Those that are read."""
    others: tuple[str, ...]
    """Those whose name is of another format."""


def list_files(fs: fsspec.AbstractFileSystem, path: str, file_format: str) -> Files:
    """Return the files below a path; Spark skips names that start with `_` or `.`."""
    pattern = FILE_PATTERNS.get(file_format)
    if pattern is None or fs.isfile(path):
        return Files(tuple(_walk(fs, path)), ())
    data: list[str] = []
    others: list[str] = []
    for file in _walk(fs, path):
        (data if _matches(file.rsplit("/", 1)[-1], pattern) else others).append(file)
    return Files(tuple(data), tuple(others))


def _matches(name: str, pattern: str) -> bool:
    start, _, rest = pattern.partition("{")
    if not rest:
        return fnmatchcase(name, pattern)
    alternatives, _, end = rest.partition("}")
    return any(fnmatchcase(name, f"{start}{one}{end}") for one in alternatives.split(","))


def _walk(fs: fsspec.AbstractFileSystem, path: str) -> Iterator[str]:
    if fs.isfile(path):
        yield path
        return
    for entry in fs.ls(path, detail=True) if fs.exists(path) else ():
        name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
        if name.startswith(("_", ".")) and name != "_delta_log":
            continue
        if entry["type"] == "directory":
            yield from _walk(fs, entry["name"])
        else:
            yield entry["name"]
