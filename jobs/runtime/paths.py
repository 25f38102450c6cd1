"""Paths and URIs from users, in a form that both fsspec and Spark can open."""

from __future__ import annotations

import fsspec

from feature_defs.errors import UsageError, contains_password


def file_system(location: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a path or URI, and the path on that file system.

    Raises:
        UsageError: it contains a password, or its file system is unknown or not installed.
    """
    if contains_password(location):
        raise UsageError(
            f"The location {location} contains a password, which `runs` and reports would store.",
            expected="a path or URI without credentials.",
            remedy="put the credentials into the settings of the storage.",
        )
    try:
        fs, path = fsspec.core.url_to_fs(location)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"The location {location} cannot be reached: {error}.",
            expected="a path, or a URI whose file system fsspec supports.",
            remedy="correct the location, or install the package for its file system.",
        ) from error
    return fs, str(path)


def uri_of(location: str) -> str:
    """Return a path or URI without a trailing slash; local paths are made absolute.

    Raises:
        UsageError: it contains a password, or its file system is unknown or not installed.
    """
    fs, path = file_system(location)
    local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
    return (path if local else location).rstrip("/")
