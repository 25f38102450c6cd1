"""The exceptions that Spark raises while it reads a source, and their root cause as one line.

`jobs/lake/errors.py` translates errors of the lake itself.
"""

from __future__ import annotations

from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException

SPARK_READ_ERRORS = (PySparkException, Py4JJavaError)
MAX_CHARACTERS = 500
_CAUSE = "Caused by: "


def first_line(error: BaseException) -> str:
    """Return the innermost cause of a Spark error, or else the first line of its text."""
    text = str(error)
    causes = [line for line in text.splitlines() if line.startswith(_CAUSE)]
    line = causes[-1].removeprefix(_CAUSE) if causes else text.strip().split("\n", 1)[0]
    return line[:MAX_CHARACTERS]
