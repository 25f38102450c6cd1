"""A short fuzzing run, in a process that lives in Tokyo; `make fuzz-test` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.spark, pytest.mark.slow]

NUM_ROWS, SEED = 1500, 11


def test_every_mutated_row_has_exactly_one_fate() -> None:
    ended = subprocess.run(
        [
            sys.executable, str(Path(__file__).with_name("fuzz.py")), "--rows", str(NUM_ROWS),
            "--seed", str(SEED),
        ],
        env={**os.environ, "TZ": "Asia/Tokyo"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-5000:]
    assert f"seed {SEED}" in ended.stdout
    assert " 0 crashes" in ended.stdout
    # Nothing of what rows hold reaches the terminal as it is.
    assert not any(sign in ended.stdout + ended.stderr for sign in "\x00\x07\x1b\u202e")
