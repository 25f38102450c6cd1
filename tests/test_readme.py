"""What the README says is so: its tree, its commands, its settings, its tables, its exit codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGES = ("feature_defs", "fraud_models", "jobs")
PROJECT_FILES = {
    ".ci",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "Makefile",
    "README.md",
    "constraints.txt",
    "feature_defs",
    "fraud_models",
    "jobs",
    "notebooks",
    "pyproject.toml",
    "setup.cfg",
    "tests",
}


def tree() -> list[str]:
    """Paths of the annotated tree."""
    block = README.split("## Where things are")[1].split("```")[1]
    paths: list[str] = []
    folder = ""
    for line in block.strip().splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
            paths.append(name)
        else:
            paths.append(folder + name)
    return paths


def on_disk(package: str) -> set[str]:
    """Modules and folders of a package that a reader should find in the tree."""
    found = set()
    for path in (ROOT / package).iterdir():
        if path.is_dir() and not path.name.startswith("__"):
            found.add(f"{package}/{path.name}/")
        elif path.suffix == ".py" and not path.name.startswith("__"):
            found.add(f"{package}/{path.name}")
    return found


def commands() -> set[str]:
    from jobs.cli.main import app

    return {command.callback.__name__ for command in app.registered_commands if command.callback}


def test_the_tree_names_what_is_there() -> None:
    missing = [path for path in tree() if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_there_is_in_the_tree(package: str) -> None:
    jobs_of_commands = {f"jobs/{name}.py" for name in commands()}
    assert on_disk(package) - jobs_of_commands <= set(tree())


def test_every_command_is_in_the_table() -> None:
    table = README.split("## Commands")[1].split("| exit code")[0]
    assert commands() <= set(re.findall(r"`([a-z]+)", table))


def test_every_setting_is_in_the_table() -> None:
    from jobs.runtime.settings import Settings

    section = README.split("## Settings")[1].split("A lake holds")[0]
    named = set(re.findall(r"`([a-z_]+)`", section))
    assert set(Settings.model_fields) - {"debug"} <= named
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            row = next(line for line in section.splitlines() if line.startswith(f"| `{name}`"))
            assert f"{float(row.split('|')[2]):g}" == f"{float(field.default):g}"


def test_every_table_is_described() -> None:
    from jobs.lake.tables import TABLES

    section = README.split("A lake holds")[1].split("## ")[0]
    assert set(TABLES) <= set(re.findall(r"^\| `([a-z]+)`", section, re.MULTILINE))


def test_every_check_of_every_gate_is_in_the_table_with_its_severity() -> None:
    from fnmatch import fnmatch

    from jobs.quality.overrides import NEVER_OVERRULED
    from jobs.quality.suites.catalogue import all_expectations

    section = README.split("## Gates")[1].split("## Where")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines()
            if line.startswith(("| gate ", "| monitor"))][1:]  # fmt: skip
    patterns = {
        (gate, pattern, severity)
        for gate, checks, severity, _ in rows
        for pattern in re.findall(r"`([^`]+)`", checks)
    }
    met = set()
    for gate, expectations in all_expectations().items():
        for item in expectations:
            never = ", never overruled" if item.kind in NEVER_OVERRULED else ""
            fits = {
                row
                for row in patterns
                if row[0] == gate and fnmatch(item.name, row[1]) and row[2] == item.severity + never
            }
            assert fits, (gate, item.name, item.severity, item.kind)
            met |= fits
    assert met == patterns


def test_every_exit_code_is_explained() -> None:
    from feature_defs import errors

    codes = {0, *(c.exit_code for c in vars(errors).values() if hasattr(c, "exit_code"))}
    rows = re.findall(r"^\| (\d) \|", README, re.MULTILINE)
    assert {int(code) for code in rows} == codes


def test_every_place_to_change_something_exists() -> None:
    table = README.split("where do I change…")[1].split("## Settings")[0]
    places = [p for p in re.findall(r"`([^`]+)`", table) if "/" in p]
    assert places
    assert not [place for place in places if not (ROOT / place).exists()]


def test_the_top_level_is_what_was_agreed() -> None:
    import subprocess

    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {path.split("/")[0] for path in tracked} == PROJECT_FILES


def test_every_module_imports_and_says_what_it_is() -> None:
    import importlib

    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] == "__main__":
                continue
            name = ".".join(part for part in parts if part != "__init__")
            assert importlib.import_module(name).__doc__, name
