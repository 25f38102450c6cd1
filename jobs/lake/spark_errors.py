"""Errors that Spark raises while it reads a source, and their innermost cause in one line."""

from __future__ import annotations

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException

UNREADABLE = (PySparkException, Py4JJavaError)


def first_line(error: BaseException) -> str:
    """What an error of Spark says in one line: its innermost cause."""
    text = str(error)
    causes = [line for line in text.splitlines() if line.startswith("Caused by: ")]
    line = causes[-1].removeprefix("Caused by: ") if causes else text.strip().split("\n", 1)[0]
    return line[:500]
