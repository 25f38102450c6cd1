"""The result of one health check; an exception in a check becomes a result as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jobs.lake.errors import translate

Status = Literal["ok", "warning", "wrong"]
MAX_CHARACTERS = 600


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; `remedy` is empty if there is nothing to do."""

    name: str
    status: Status
    found: str
    remedy: str = ""


def run_check(name: str, check: Callable[[], CheckResult]) -> CheckResult:
    """Run a check and return its result; an exception becomes a result with status "wrong"."""
    try:
        return check()
    except Exception as error:
        return result_of_error(name, error)


def result_of_error(name: str, error: Exception) -> CheckResult:
    """Return an exception as a check result with status "wrong"."""
    if known_error := translate(error):
        return CheckResult(name, "wrong", known_error.found, known_error.remedy)
    first_line = str(error).strip().split("\n", 1)[0][:MAX_CHARACTERS]
    remedy = "read the error message; fraud-scoring does not know this error."
    return CheckResult(name, "wrong", f"{type(error).__name__}: {first_line}", remedy)
