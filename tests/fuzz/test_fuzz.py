"""A short fuzzing run with the time zone Asia/Tokyo; `make fuzz-test` runs a long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick_spark import quick_environment

pytestmark = [pytest.mark.spark, pytest.mark.slow]

NUM_ROWS, SEED = 1500, 11


# Slow: a process in another time zone ingests five deliveries and writes their pages.
def test_every_mutated_row_has_exactly_one_outcome() -> None:
    result = subprocess.run(
        [
            sys.executable, str(Path(__file__).with_name("fuzz.py")), "--rows", str(NUM_ROWS),
            "--seed", str(SEED),
        ],
        env={**os.environ, **quick_environment(), "TZ": "Asia/Tokyo"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    assert f"seed {SEED}" in result.stdout
    assert " 0 crashes" in result.stdout
    # Control characters of rows do not reach the terminal.
    assert not any(sign in result.stdout + result.stderr for sign in "\x00\x07\x1b\u202e")
