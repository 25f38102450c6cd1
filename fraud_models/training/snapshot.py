"""A training snapshot: immutable Parquet files and a manifest with their digests.

    <uri>/data/*.parquet   rows of `event_batch.PACKED_SCHEMA`, one row group per file
    <uri>/manifest.json    content of the files, and the data they were made from

Petastorm assigns row groups to ranks. It must not read a Delta folder, because it would also read
rows that Delta has deleted. Spark therefore writes the snapshot once, as equal files whose number
is a multiple of the number of ranks. To write one: write `data/`, call `summarise(uri)`, then
`write_manifest(uri, Manifest(...))`. A training run calls `verify_manifest` before it starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_defs.errors import InputMissing
from fraud_models.sequences.encoding import Encoding
from fraud_models.storage import filesystem, join, names_in, read_bytes, write_bytes

FORMAT_VERSION = 2
DATA_FOLDER = "data"
MANIFEST_FILE = "manifest.json"
REWRITE_REMEDY = "write the snapshot again (the train job does)."


@dataclass(frozen=True)
class SnapshotFile:
    """One Parquet file of a snapshot."""

    name: str
    num_rows: int
    size_bytes: int
    sha256: str
    """SHA-256 of its bytes."""


@dataclass(frozen=True)
class SnapshotSummary:
    """Files of a snapshot, with the numbers of their events."""

    files: tuple[SnapshotFile, ...]
    num_events: int
    """Events in all rows, including those that are only context."""
    num_train_events: int
    """Events with role 1."""
    num_validation_events: int
    """Events with role 2."""

    @property
    def num_rows(self) -> int:
        """Sequences in all files."""
        return sum(file.num_rows for file in self.files)


@dataclass(frozen=True)
class Manifest:
    """Content of a snapshot, and the data it was made from."""

    summary: SnapshotSummary
    columns: Mapping[str, str]
    """Feature columns in the order of the packed values, with fingerprints of their definitions."""
    encoding: Encoding
    """Fitted on the snapshot's training events."""
    data_versions: Mapping[str, int]
    """Version of every input table."""
    as_of: str
    """Date (YYYY-MM-DD): all data was known before 00:00 UTC of this day."""
    world_size: int
    """Number of ranks that the snapshot was written for."""

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain values for JSON."""
        return {
            "format_version": FORMAT_VERSION,
            "num_rows": self.summary.num_rows,
            "num_events": self.summary.num_events,
            "num_train_events": self.summary.num_train_events,
            "num_validation_events": self.summary.num_validation_events,
            "files": [asdict(file) for file in self.summary.files],
            "columns": dict(self.columns),
            "encoding": self.encoding.to_dict(),
            "data_versions": dict(self.data_versions),
            "as_of": self.as_of,
            "world_size": self.world_size,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Manifest:
        """Return the manifest that `to_dict` wrote."""
        return cls(
            summary=SnapshotSummary(
                files=tuple(SnapshotFile(**file) for file in values["files"]),
                num_events=values["num_events"],
                num_train_events=values["num_train_events"],
                num_validation_events=values["num_validation_events"],
            ),
            columns=values["columns"],
            encoding=Encoding.from_dict(values["encoding"]),
            data_versions=values["data_versions"],
            as_of=values["as_of"],
            world_size=values["world_size"],
        )


def summarise(uri: str) -> SnapshotSummary:
    """Return a summary of the files in `<uri>/data`.

    Raises:
        InputMissing: a file has more than one row group, so write more and smaller files; or there
            is no training or no validation event, so choose a later date.
    """
    files: list[SnapshotFile] = []
    totals = [0, 0, 0]
    for name in names_in(join(uri, DATA_FOLDER)):
        if not name.endswith(".parquet"):
            continue
        file, counts = _summarise_file(join(uri, DATA_FOLDER, name), name)
        # Spark writes one file without rows if there are no rows at all.
        if file.num_rows:
            files.append(file)
            totals = [total + count for total, count in zip(totals, counts, strict=True)]
    if totals[1] == 0 or totals[2] == 0:
        raise InputMissing(
            f"The snapshot {uri} has {totals[1]} training and {totals[2]} validation events.",
            expected="training and validation events.",
            remedy="choose a later date, or ingest the days before it and build their features.",
        )
    return SnapshotSummary(tuple(files), *totals)


def _summarise_file(uri: str, name: str) -> tuple[SnapshotFile, list[int]]:
    fs, path = filesystem(uri)
    with fs.open(path, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
        parquet = pq.ParquetFile(opened)
        num_groups = parquet.metadata.num_row_groups
        if num_groups > 1:
            raise InputMissing(
                f"{uri} has {num_groups} row groups.",
                expected="one row group per file, so that ranks get equal shares.",
                remedy="write more and smaller files (each below parquet.block.size).",
            )
        table = parquet.read(columns=["num_events", "num_train", "num_validation"])
    counts = [int(pc.sum(column).as_py() or 0) for column in table.columns]
    return SnapshotFile(name, table.num_rows, int(fs.size(path)), digest), counts


def write_manifest(uri: str, manifest: Manifest) -> None:
    """Write `<uri>/manifest.json`, which makes a snapshot complete."""
    text = json.dumps(manifest.to_dict(), indent=1)
    write_bytes(join(uri, MANIFEST_FILE), text.encode())


def read_manifest(uri: str) -> Manifest:
    """Read `<uri>/manifest.json`.

    Raises:
        InputMissing: it is missing, not readable or of another format; write the snapshot again.
    """
    path = join(uri, MANIFEST_FILE)
    content = read_bytes(path)
    try:
        values = json.loads(content)
        if values["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format is {values['format_version']}")
        return Manifest.from_dict(values)
    except (ValueError, KeyError, TypeError) as error:
        raise InputMissing(
            f"{path} is not a valid manifest: {error}.",
            expected=f"the JSON of a snapshot's manifest, format {FORMAT_VERSION}.",
            remedy=REWRITE_REMEDY,
        ) from error


def verify_manifest(uri: str, manifest: Manifest, num_ranks: int) -> None:
    """Check that all files match the manifest and are enough for the ranks.

    Only existence, size and number of rows are checked; `find_corruption` checks the content.

    Raises:
        InputMissing: files are missing or have another size or number of rows (the message lists
            all of them), so write the snapshot again; or there are fewer files than
            ranks, so use fewer workers.
    """
    mismatches = [
        mismatch for file in manifest.summary.files if (mismatch := _find_mismatch(uri, file))
    ]
    if mismatches:
        raise InputMissing(
            f"The snapshot {uri} is damaged: {'; '.join(mismatches)}.",
            expected=f"the {len(manifest.summary.files)} files of its manifest, unchanged.",
            remedy=REWRITE_REMEDY,
        )
    if len(manifest.summary.files) < num_ranks:
        raise InputMissing(
            f"The snapshot {uri} has {len(manifest.summary.files)} files for {num_ranks} ranks.",
            expected="at least one file per rank.",
            remedy=f"train with fewer workers, or {REWRITE_REMEDY}",
        )


def _find_mismatch(uri: str, file: SnapshotFile) -> str | None:
    """Return how a file differs from the manifest in size or rows, or None."""
    fs, path = filesystem(join(uri, DATA_FOLDER, file.name))
    if not fs.exists(path):
        return f"{file.name} is missing"
    size = int(fs.size(path))
    if size != file.size_bytes:
        return f"{file.name} has {size} bytes instead of {file.size_bytes}"
    try:
        with fs.open(path, "rb") as opened:
            num_rows = pq.ParquetFile(opened).metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        return f"{file.name} cannot be read ({error})"
    if num_rows != file.num_rows:
        return f"{file.name} has {num_rows} rows instead of {file.num_rows}"
    return None


def find_corruption(uri: str, file: SnapshotFile) -> str | None:
    """Return how a file differs from the manifest, its content included, or None."""
    mismatch = _find_mismatch(uri, file)
    if mismatch:
        return mismatch
    fs, path = filesystem(join(uri, DATA_FOLDER, file.name))
    with fs.open(path, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return None if digest == file.sha256 else f"{file.name} has different content"
