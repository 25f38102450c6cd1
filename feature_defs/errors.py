"""Errors that a person can act on: what was found, what was expected, what to do.

Every layer raises these, and only the command line turns them into an exit code, so a problem
reads the same in a log, in the table of runs and on a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

# Of many things that a problem is about, so many are named.
MAX_NAMED = 5

# The name and password of `scheme://name:password@host`, and those that follow a `?`.
_USER = re.compile(r"(?<=://)[^@\s]*:[^@\s]*(?=@)|(?i:(?<=[?&]password=)|(?<=[?&]pwd=))[^&\s]+")


def without_passwords(text: str) -> str:
    """Text in which no address shows who logs in with what.

    >>> without_passwords("postgresql://fraud:secret@db/mlflow cannot be read")
    'postgresql://***@db/mlflow cannot be read'
    >>> without_passwords("postgresql://u:pa/ss@db and postgresql://db/mlflow?password=secret&ssl=1")
    'postgresql://***@db and postgresql://db/mlflow?password=***&ssl=1'
    """
    return _USER.sub("***", text)


def holds_password(text: str) -> bool:
    """Whether an address in a text says who logs in with what."""
    return _USER.search(text) is not None


def join_first(things: Sequence[object]) -> str:
    """The first of some names, and how many more there are.

    >>> named([1, 2, 3, 4, 5, 6, 7])
    '1, 2, 3, 4, 5 and 2 more'
    """
    more = f" and {len(things) - MAX_NAMED} more" if len(things) > MAX_NAMED else ""
    return ", ".join(map(str, things[:MAX_NAMED])) + more


class DefinitionError(ValueError):
    """A feature is defined as it cannot be meant; raised where the definition stands."""


class FraudScoringError(Exception):
    """One readable paragraph; the subclass says which exit code a command ends with."""

    exit_code: ClassVar[int] = 1

    def __init__(self, found: str, *, expected: str, remedy: str) -> None:
        # Whatever raised it may have quoted an address; a problem is shown and kept.
        self.found, self.expected, self.remedy = map(without_passwords, (found, expected, remedy))
        super().__init__(f"{self.found} Expected: {self.expected} What to do: {self.remedy}")


class UsageError(FraudScoringError):
    """Bad usage, settings or definitions."""

    exit_code = 2


class GateFailed(FraudScoringError):
    """A gate said no, or could not decide, which is the same."""

    exit_code = 3


class InputMissing(FraudScoringError):
    """An input is missing, damaged or not ready."""

    exit_code = 4


class NightHeld(FraudScoringError):
    """Another run holds this night."""

    exit_code = 5
