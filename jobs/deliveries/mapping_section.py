"""What every section of a mapping file has in common: frozen, and no unknown key."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A frozen section of the TOML file that rejects unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def relative_path(path: str) -> str:
    """Return a path without slashes at its ends; raise if it can point outside the source."""
    parts = path.split("/")
    if path.startswith(("/", "\\")) or ".." in parts or ":" in path or "\0" in path:
        raise ValueError(f"{path!r} must be a relative path below the source")
    return path.strip("/")
