"""Small files by URI: a local path or anything fsspec reaches.

A file is either there whole or not at all: locally it is written under another name, flushed and
renamed; an object store's put is atomic by itself. There is no append (object stores have none):
what grows, such as the progress of a training run, is written whole each time.
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
    """Path of something below a URI.

    >>> join("s3://bucket/models/", "a", "b.json")
    's3://bucket/models/a/b.json'
    """
    return "/".join([uri.rstrip("/"), *parts])


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a URI, and the path inside it."""
    fs, path = fsspec.core.url_to_fs(uri)
    return fs, str(path)


def is_local(uri: str) -> bool:
    """Whether the URI names a place on this machine's file system."""
    protocol = filesystem(uri)[0].protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def exists(uri: str) -> bool:
    """Whether there is a file or folder at the URI."""
    fs, path = filesystem(uri)
    return bool(fs.exists(path))


def names_in(uri: str) -> list[str]:
    """Names of the files directly in a folder, sorted; none when there is no such folder."""
    fs, path = filesystem(uri)
    if not fs.exists(path):
        return []
    return sorted(str(entry).rstrip("/").rsplit("/", 1)[-1] for entry in fs.ls(path, detail=False))


def read_bytes(uri: str) -> bytes:
    """Content of a file.

    Raises:
        InputMissing: there is no such file.
    """
    fs, path = filesystem(uri)
    try:
        return bytes(fs.cat_file(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise InputMissing(
            f"There is no file {uri}.",
            expected="the file that an earlier step wrote there.",
            remedy="check the path; if the file was deleted, run the step that writes it again.",
        ) from error


def write_bytes(uri: str, content: bytes) -> None:
    """Write a file whole, in place of any that is there."""
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
    """Delete a file if it is there."""
    fs, path = filesystem(uri)
    if fs.exists(path):
        fs.rm_file(path)


def sha256_of(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()
