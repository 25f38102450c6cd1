"""A wrong definition ends every command with a paragraph that says where it stands."""

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
    ("meant", "written", "words"),
    [
        ('"amount"', '"amuont"', "mean of amuont: transactions has no column 'amuont'"),
        ("mean(", "maen(", "NameError: name 'maen' is not defined"),
        ("mean(", "mean((", "SyntaxError: "),
        ('"amount", ', "", "TypeError: mean() missing 1 required positional argument"),
    ],
)
def test_a_definition_that_cannot_be_meant_is_told_with_its_place(
    tmp_path: Path, meant: str, written: str, words: str
) -> None:
    for package in ("feature_defs", "fraud_models", "jobs"):
        shutil.copytree(ROOT / package, tmp_path / package)
    card = tmp_path / "feature_defs" / "card.py"
    text = card.read_text()
    place = text.index(SPEND)
    card.write_text(text[:place] + text[place:].replace(meant, written, 1))
    ended = subprocess.run(
        [sys.executable, "-m", "jobs", "--help"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert words in ended.stderr
    told = re.search(rf"{re.escape(str(card))}, line (\d+)\.", ended.stderr)
    assert told is not None, ended.stderr
    first = text[:place].count("\n") + 1
    assert first <= int(told[1]) <= first + text[place:].index("\n\n")
    assert "Traceback" not in ended.stderr
