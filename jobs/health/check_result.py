"""What an examination found, and how a check that crashes becomes a finding."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.lake.errors import translate

Status = Literal["ok", "warning", "wrong"]
MAX_CHARACTERS = 600
GIB = 2**30
LITTLE_DISK, NO_DISK = 20 * GIB, 2 * GIB


@dataclass(frozen=True)
class CheckResult:
    """What one check found; `remedy` is empty when there is nothing to do."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def checked(name: str, check: Callable[[], CheckResult]) -> CheckResult:
    """The finding of a check; its error, when it crashes."""
    try:
        return check()
    except Exception as error:
        return crashed(name, error)


def crashed(name: str, error: Exception) -> CheckResult:
    """An error as a finding."""
    if problem := translate(error):
        return CheckResult(name, "wrong", problem.found, problem.remedy)
    first_line = str(error).strip().split("\n", 1)[0][:MAX_CHARACTERS]
    remedy = "read the error; it is not one that this program knows."
    return CheckResult(name, "wrong", f"{type(error).__name__}: {first_line}", remedy)


def disk(name: str, place: Path) -> CheckResult:
    """Free space where a folder lies."""
    free = shutil.disk_usage(place).free
    found = f"{place}, {free / GIB:.0f} GiB free"
    if free >= LITTLE_DISK:
        return CheckResult(name, "ok", found)
    remedy = "make room: a job fails in the middle when the disk is full."
    return CheckResult(name, "wrong" if free < NO_DISK else "warning", found, remedy)
