"""Run the command line `fraud-scoring` in the test process.

A separate process costs two to twenty seconds (imports, Java, Spark). Only tests that depend on the
process itself (signals, leaks, imports) start one.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING
from unittest.mock import patch

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextmanager
def restored_process() -> Iterator[None]:
    """Restore the environment and the project's logger after the block."""
    from jobs.runtime.logs import LOGGER

    handlers, level, propagate = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    with patch.dict(os.environ):
        try:
            yield
        finally:
            LOGGER.handlers[:] = handlers
            LOGGER.setLevel(level)
            LOGGER.propagate = propagate


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process; return what a separate process would return."""
    from jobs.cli.main import main

    code: str | int | None = 0
    output, errors = io.StringIO(), io.StringIO()
    argv = ["fraud-scoring", *map(str, arguments)]
    with (
        restored_process(),
        patch.object(sys, "argv", argv),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            main()
        except SystemExit as exit_request:
            code = exit_request.code
    assert isinstance(code, int | None)
    return subprocess.CompletedProcess(argv, code or 0, output.getvalue(), errors.getvalue())


def run_command_on(spark: SparkSession, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command with the Spark session of the tests, and leave the session open."""

    @contextmanager
    def shared_session(_settings: object) -> Iterator[SparkSession]:
        yield spark

    with patch("jobs.cli.options.open_spark", shared_session):
        return run_command(*arguments)
