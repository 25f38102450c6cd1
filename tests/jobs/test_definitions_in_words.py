"""A wrong definition ends every command with a paragraph that says where it stands."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_definition_that_cannot_be_meant_is_told_with_its_place(tmp_path: Path) -> None:
    for package in ("feature_defs", "fraud_models", "jobs"):
        shutil.copytree(ROOT / package, tmp_path / package)
    card = tmp_path / "feature_defs" / "card.py"
    text = card.read_text()
    place = text.index("CARD_SPEND = ")
    card.write_text(text[:place] + text[place:].replace('"amount"', '"amuont"', 1))
    line = text[:place].count("\n") + 1
    ended = subprocess.run(
        [sys.executable, "-m", "jobs", "--help"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert "mean of amuont: transactions has no column 'amuont'" in ended.stderr
    assert f"{card}, line {line}." in ended.stderr
    assert "Traceback" not in ended.stderr
