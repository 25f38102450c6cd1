"""The error classes of the project, and helpers for their texts.

Every error says what was found, what was expected and what to do. All layers raise these classes;
only the command line turns them into exit codes. So an error reads the same in a log, in the table
`runs` and in a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

# An error message lists at most this many items by name.
MAX_NAMED = 5

# Credentials in a URL: `user:password@`, and the value of `password=` or `pwd=` in its query.
_CREDENTIALS = re.compile(
    r"(?<=://)[^@\s]*:[^@\s]*(?=@)|(?i:(?<=[?&]password=)|(?<=[?&]pwd=))[^&\s]+"
)


def without_passwords(text: str) -> str:
    """Replace user names and passwords in URLs with `***`.

    >>> without_passwords("postgresql://fraud:secret@db/mlflow cannot be read")
    'postgresql://***@db/mlflow cannot be read'
    >>> without_passwords("postgresql://u:pa/ss@db and postgresql://db/mlflow?password=secret&ssl=1")
    'postgresql://***@db and postgresql://db/mlflow?password=***&ssl=1'
    """
    return _CREDENTIALS.sub("***", text)


def contains_password(text: str) -> bool:
    """Return whether a URL in the text contains a password."""
    return _CREDENTIALS.search(text) is not None


def join_first(items: Sequence[object]) -> str:
    """Join the first items with commas and add how many more there are.

    >>> join_first([1, 2, 3, 4, 5, 6, 7])
    '1, 2, 3, 4, 5 and 2 more'
    """
    more = f" and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else ""
    return ", ".join(map(str, items[:MAX_NAMED])) + more


class DefinitionError(ValueError):
    """A feature definition is invalid; raised when its module is imported."""


class FraudScoringError(Exception):
    """Base class: one readable paragraph, and the exit code of the command that it ends."""

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, *, expected: str, remedy: str) -> None:
        # The text is printed and stored, and it may quote a URL with credentials.
        self.found, self.expected, self.remedy = map(without_passwords, (found, expected, remedy))
        super().__init__(f"{self.found} Expected: {self.expected} What to do: {self.remedy}")


class UsageError(FraudScoringError):
    """Arguments, settings or definitions are invalid."""

    exit_code = 2


class GateFailed(FraudScoringError):
    """A gate failed, or could not decide, which counts as failed."""

    exit_code = 3


class InputMissing(FraudScoringError):
    """An input is missing, damaged or not ready."""

    exit_code = 4


class NightHeld(FraudScoringError):
    """Another run holds the lease of a night, or is running the same training."""

    exit_code = 5
