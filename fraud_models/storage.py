"""Read and write small files by URI: a local path or any store that fsspec supports.

Writes are atomic: locally a file is written under a temporary name, flushed and renamed; in an
object store a put is atomic. There is no append, because object stores have none: a growing file,
such as the progress of a training run, is rewritten each time.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path
from typing import Any

import fsspec

from feature_defs.errors import InputMissing


def join(uri: str, *parts: str) -> str:
    """Return the URI of a path below a URI.

    >>> join("s3://bucket/models/", "a", "b.json")
    's3://bucket/models/a/b.json'
    """
    return "/".join([uri.rstrip("/"), *parts])


def filesystem(uri: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URI and the path inside it."""
    fs, path = fsspec.core.url_to_fs(uri)
    return fs, str(path)


def is_local(uri: str) -> bool:
    """Return whether the URI is on the local file system."""
    protocol = filesystem(uri)[0].protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def exists(uri: str) -> bool:
    """Return whether a file or folder exists at the URI."""
    fs, path = filesystem(uri)
    return bool(fs.exists(path))


def names_in(uri: str) -> list[str]:
    """Return the sorted names of the entries of a folder; empty if the folder does not exist."""
    fs, path = filesystem(uri)
    if not fs.exists(path):
        return []
    return sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(path, detail=False))


def read_bytes(uri: str) -> bytes:
    """Return the content of a file.

    Raises:
        InputMissing: the file does not exist; check the path, or rerun the step that writes it.
    """
    fs, path = filesystem(uri)
    try:
        return bytes(fs.cat_file(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise InputMissing(
            f"There is no file {uri}.",
            expected="the file that an earlier step wrote there.",
            remedy="check the path; if the file was deleted, rerun the step that writes it.",
        ) from error


def write_bytes(uri: str, content: bytes) -> None:
    """Write a file atomically; replace it if it exists."""
    fs, path = filesystem(uri)
    if not is_local(uri):
        fs.pipe_file(path, content)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def delete(uri: str) -> None:
    """Delete a file if it exists."""
    fs, path = filesystem(uri)
    if fs.exists(path):
        fs.rm_file(path)


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 as hexadecimal text."""
    return hashlib.sha256(content).hexdigest()
