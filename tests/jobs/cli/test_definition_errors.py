"""An invalid feature definition ends every command with an error that names its file and line."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SPEND = "CARD_SPEND = "


@pytest.mark.parametrize(
    ("correct", "wrong", "error"),
    [
        ('"amount"', '"amuont"', "mean of amuont: transactions has no column 'amuont'"),
        ("mean(", "maen(", "NameError: name 'maen' is not defined"),
        ("mean(", "mean((", "SyntaxError: "),
        ('"amount", ', "", "TypeError: mean() missing 1 required positional argument"),
    ],
)
def test_invalid_definition_is_reported_with_file_and_line(
    tmp_path: Path, correct: str, wrong: str, error: str
) -> None:
    for package in ("feature_defs", "fraud_models", "jobs"):
        shutil.copytree(ROOT / package, tmp_path / package)
    card = tmp_path / "feature_defs" / "card.py"
    text = card.read_text()
    start = text.index(SPEND)
    card.write_text(text[:start] + text[start:].replace(correct, wrong, 1))
    ended = subprocess.run(
        [sys.executable, "-m", "jobs", "--help"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert error in ended.stderr
    location = re.search(rf"{re.escape(str(card))}, line (\d+):", ended.stderr)
    assert location is not None, ended.stderr
    first_line = text[:start].count("\n") + 1
    num_lines = text[start:].split("\n\n")[0].count("\n") + 1
    assert first_line <= int(location[1]) < first_line + num_lines
    assert "Traceback" not in ended.stderr
