"""The README of `feature_defs` matches the code: functions, files and the example of windows."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from feature_defs import language
from feature_defs.feature import Window

PACKAGE = Path(language.__file__).parent
README = (PACKAGE / "README.md").read_text(encoding="utf-8")
WINDOWS = (Window(1), Window(7), Window(7, delay_days=7))
TRANSACTION_TIME = datetime(2024, 3, 15, 12)


def test_functions_of_the_language_are_all_in_the_table() -> None:
    functions = {
        name
        for name, value in vars(language).items()
        if getattr(value, "__annotations__", {}).get("return") == "Aggregation"
        and not name.startswith("_")
    }
    table = README.split("## Functions")[1].split("## ")[0]
    assert functions | {"Ratio", "SmoothedRate"} <= set(re.findall(r"`(\w+)`", table))


def test_modules_are_all_in_the_file_map() -> None:
    table = README.split("## File map")[1]
    modules = {path.name for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    named = {Path(name).name for name in re.findall(r"`([\w/]+\.py)`", table)}
    assert named == modules


@pytest.mark.parametrize(
    ("moment", "cells"),
    re.findall(r"^\| (03-\d\d \d\d:\d\d:\d\d) \| (.*) \|$", README, re.MULTILINE),
)
def test_window_example_matches_the_window_definition(moment: str, cells: str) -> None:
    time = datetime.strptime(f"2024-{moment}", "%Y-%m-%d %H:%M:%S")
    contains = []
    for window in WINDOWS:
        end = TRANSACTION_TIME - timedelta(days=window.delay_days)
        start = end - timedelta(days=window.length_days)
        contains.append("yes" if start < time <= end else "no")
    assert cells.split(" | ") == contains
