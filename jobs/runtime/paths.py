"""Places that people name: paths and URIs, as fsspec and Spark both reach them."""

from __future__ import annotations

import fsspec

from feature_defs.errors import UsageError, holds_password


def file_system(place: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system that a place is on, and its path there.

    Raises:
        UsageError: a password is in it, or its file system is not known or not installed.
    """
    if holds_password(place):
        raise UsageError(
            f"The place {place} has a password in it, which `runs` and reports would keep.",
            expected="a path or URI that anybody may see.",
            remedy="give what logs in to the storage's own settings.",
        )
    try:
        fs, path = fsspec.core.url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"The place {place} cannot be reached: {error}.",
            expected="a path, or a URI whose file system fsspec knows.",
            remedy="correct it, or install what is missing beside this package.",
        ) from error
    return fs, str(path)


def uri_of(place: str) -> str:
    """A place without a slash at its end; local paths are absolute.

    Raises:
        UsageError: as `file_system`.
    """
    fs, path = file_system(place)
    local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
    return (path if local else place).rstrip("/")
