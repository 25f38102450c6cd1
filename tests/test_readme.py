"""The READMEs match the code: tables, file maps, links, commands and targets.

Each fact is in one README and is checked there: commands and exit codes in the top README;
settings, gates and tables of the lake in `jobs/README.md`; files in the file map of their package.
"""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("feature_defs", "fraud_models", "jobs")
MAX_README_LINES, MAX_CONTRIBUTING_LINES = 220, 60
PROJECT_FILES = {
    ".ci",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
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
DOCUMENTS = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "feature_defs/README.md",
    "fraud_models/README.md",
    "jobs/README.md",
    "notebooks/README.md",
    "tests/README.md",
)


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def section(document: str, heading: str) -> str:
    """Return the text below a heading, up to the next heading of the same or a higher level."""
    level, _ = heading.split(" ", 1)
    below = text_of(document).split(f"\n{heading}\n", 1)[1]
    return re.split(rf"\n#{{1,{len(level)}}} ", below, maxsplit=1)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows of a text, headings included."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def code_spans(text: str) -> list[str]:
    """Return the texts between single backticks, without fenced blocks."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def code(text: str) -> Iterator[str]:
    """Yield the fenced blocks and code spans of a text."""
    yield from re.findall(r"```.*?```", text, flags=re.DOTALL)
    yield from code_spans(text)


def file_map(package: str) -> set[str]:
    """Return the files that the file map in a package's README names, as a tree or as a table."""
    text = section(f"{package}/README.md", "## File map")
    return _files_of_tree(text.split("```")[1]) if "```" in text else _files_of_table(package, text)


def _files_of_tree(block: str) -> set[str]:
    folders: list[str] = []
    files = set()
    for line in block.strip("\n").splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        if not name.endswith("/"):
            files.add("".join(folders))
    return files


def _files_of_table(package: str, text: str) -> set[str]:
    """Return the files in a table; of several files in a cell, only the first has the folder."""
    files = set()
    for cell, *_ in rows(text)[2:]:
        first, *others = code_spans(cell)
        folder = Path(package) / Path(first).parent
        files |= {(folder / Path(name).name).as_posix() for name in (first, *others)}
    return files


def modules(package: str) -> set[str]:
    """Return the modules of a package on disk."""
    paths = (ROOT / package).rglob("*.py")
    return {p.relative_to(ROOT).as_posix() for p in paths if not p.name.startswith("__")}


def packages_on_disk() -> set[str]:
    """Return the top-level folders and the packages directly inside the three packages."""
    inside = {
        f"{package}/{path.parent.name}/"
        for package in PACKAGES
        for path in (ROOT / package).glob("*/__init__.py")
    }
    return {*inside, *(f"{package}/" for package in PACKAGES), "tests/", "notebooks/"}


def commands() -> set[str]:
    from jobs.cli.main import app

    return {command.callback.__name__ for command in app.registered_commands if command.callback}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", text_of("Makefile"), re.MULTILINE))


def targets_in(document: str) -> set[str]:
    """Return the targets of the `make` commands in a document's code."""
    spans = " \n".join(code(text_of(document)))
    return set(re.findall(r"(?:^|\s)make\s+([a-z][a-z-]*)", spans))


def anchors(document: str) -> set[str]:
    """Return the anchors that GitHub derives from a document's headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def links(document: str) -> list[tuple[str, str]]:
    """Return path and anchor of each relative link."""
    matches = re.findall(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)", text_of(document))
    return [(path, anchor) for path, anchor in matches if not path.startswith("http")]


# -- the top README --------------------------------------------------------------------------------


def test_readme_length_stays_within_limit() -> None:
    assert len(text_of("README.md").splitlines()) <= MAX_README_LINES
    assert len(text_of("CONTRIBUTING.md").splitlines()) <= MAX_CONTRIBUTING_LINES


def test_command_table_equals_cli() -> None:
    table = section("README.md", "## Commands").split("| exit code")[0]
    documented = [name for row in rows(table)[2:] for name in re.findall(r"`([a-z]+)", row[0])]
    assert sorted(documented) == sorted(commands())


def test_exit_codes_equal_error_classes() -> None:
    from feature_defs import errors

    codes = {0, *(c.exit_code for c in vars(errors).values() if hasattr(c, "exit_code"))}
    table = section("README.md", "## Commands").split("| exit code")[1]
    assert {int(row[0]) for row in rows(table) if row[0].isdigit()} == codes


def test_package_table_equals_folders_on_disk() -> None:
    table = section("README.md", "## Where things are").split("| where do I change")[0]
    documented = [row[0].strip("`") for row in rows(table)[2:]]
    assert sorted(documented) == sorted(packages_on_disk())


def test_every_path_in_the_change_table_exists() -> None:
    table = section("README.md", "## Where things are").split("| where do I change")[1]
    paths = [path for path in code_spans(table) if "/" in path]
    assert len(paths) > 10
    assert not [path for path in paths if not (ROOT / path).exists()]


# -- jobs/README.md --------------------------------------------------------------------------------


def test_settings_table_has_every_setting_and_default() -> None:
    from jobs.runtime.settings import Settings

    table = {
        name: row[1]
        for row in rows(section("jobs/README.md", "## Settings"))
        for name in code_spans(row[0])
    }
    assert set(Settings.model_fields) - {"debug"} == set(table)
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert float(table[name]) == float(field.default), name


def test_lake_table_list_has_every_table() -> None:
    from jobs.lake.tables import TABLES

    documented = [
        row[0].strip("`") for row in rows(section("jobs/README.md", "## Tables of the lake"))
    ]
    assert set(documented[2:]) == set(TABLES)


def test_gate_table_has_every_check_with_its_severity() -> None:
    from jobs.quality.overrides import NEVER_OVERRIDDEN
    from jobs.quality.suites.catalogue import all_expectations

    patterns = {
        (gate, pattern, severity)
        for gate, checks, severity, _ in rows(section("jobs/README.md", "## Gates"))
        for pattern in re.findall(r"`([^`]+)`", checks)
    }
    matched = set()
    for gate, expectations in all_expectations().items():
        for item in expectations:
            suffix = ", cannot be overridden" if item.kind in NEVER_OVERRIDDEN else ""
            matching = {
                row
                for row in patterns
                if row[0] == gate
                and fnmatch(item.name, row[1])
                and row[2] == item.severity + suffix
            }
            assert matching, (gate, item.name, item.severity, item.kind)
            matched |= matching
    assert matched == patterns


def test_mapping_table_has_every_key() -> None:
    from jobs.deliveries.label_mapping import Labels
    from jobs.deliveries.mapping import Mapping, Readiness, Transactions
    from jobs.deliveries.text_format import TextFormat

    parts = {
        "format": TextFormat, "transactions": Transactions, "labels": Labels,
        "readiness": Readiness,
    }  # fmt: skip
    keys = {key for key in Mapping.model_fields if key not in parts}
    keys |= {f"{part}.{key}" for part, model in parts.items() for key in model.model_fields}
    documented = [row[0].strip("`") for row in rows(section("jobs/README.md", "## Mapping"))]
    assert set(documented[2:]) == keys


# -- every package ---------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_file_map_equals_files_on_disk(package: str) -> None:
    assert file_map(package) == modules(package)


def test_recipe_table_equals_recipes() -> None:
    from fraud_models.recipes import RECIPES

    table = section("fraud_models/README.md", "## Recipes")
    documented = {name for row in rows(table)[2:] for name in re.findall(r"`(\w+)`", row[0])}
    assert documented == set(RECIPES)


def test_notebook_table_equals_notebooks() -> None:
    documented = re.findall(r"^\| `([^`]+)` \|", text_of("notebooks/README.md"), re.MULTILINE)
    on_disk = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {name for name in documented if name.endswith(".ipynb")} == on_disk


def test_every_module_imports_and_has_a_docstring() -> None:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[-1] == "__main__":
                continue
            name = ".".join(part for part in parts if part != "__init__")
            assert importlib.import_module(name).__doc__, name


# -- all documents ---------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS)
def test_relative_links_resolve(document: str) -> None:
    broken = []
    for path, anchor in links(document):
        target = (ROOT / document).parent.joinpath(path).resolve() if path else ROOT / document
        if not target.exists():
            broken.append(path)
        elif anchor and anchor not in anchors(target.relative_to(ROOT).as_posix()):
            broken.append(f"{path}#{anchor}")
    assert not broken


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_named_in_code_exist(document: str) -> None:
    """Code that begins with one of our folders names a file or a folder that exists."""
    ours = (*PACKAGES, "tests", "notebooks")
    paths = {
        match
        for span in code(text_of(document))
        for match in re.findall(rf"(?<![\w/.])(?:{'|'.join(ours)})/[\w./-]*\w/?", span)
    }
    missing = [path for path in paths if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_targets_named_in_code_exist(document: str) -> None:
    assert targets_in(document) <= make_targets()


def test_every_make_target_is_documented() -> None:
    assert make_targets() <= set().union(*map(targets_in, DOCUMENTS))


def test_repository_root_has_only_expected_files() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {path.split("/")[0] for path in tracked} == PROJECT_FILES
