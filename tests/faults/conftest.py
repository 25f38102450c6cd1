"""Lakes to be hit, and the table of what became of them, printed at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from lakes import Picture, Template
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

TITLES = ("fault", "before", "after the fault", "after the rerun", "verdict")


@dataclass
class Outcome:
    """One line of the table."""

    fault: str
    before: str = ""
    after_fault: str = ""
    after_rerun: str = ""
    verdict: str = "FAILED"


@pytest.fixture
def outcome(record_property: Callable[[str, object], None]) -> Callable[[str], Any]:
    """Open a line of the table; it says FAILED unless its block ends well."""

    @contextmanager
    def open_line(fault: str) -> Iterator[Outcome]:
        line = Outcome(fault)
        try:
            yield line
            line.verdict = "as undisturbed" if line.verdict == "FAILED" else line.verdict
        finally:
            # The table is printed by another process when tests run in several.
            record_property("fault", list(astuple(line)))

    return open_line


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of faults; rows of a night are t/l/q/f/s/a, the first letters of the tables."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    properties = [
        entry
        for report in reports
        if getattr(report, "when", "") == "call"
        for entry in report.user_properties
    ]
    lines = [Outcome(*value) for name, value in properties if name == "fault"]
    if not lines:
        return
    rows = [TITLES, *(astuple(line) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(TITLES))]
    terminalreporter.section("faults")
    terminalreporter.write_line(
        "rows: transactions/labels/quarantine/features/scores/alerts of the night"
    )
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(" | ".join(cells).rstrip())
    good = sum(line.verdict != "FAILED" for line in lines)
    terminalreporter.write_line(f"{good} of {len(lines)} faults left nothing wrong")


@pytest.fixture(scope="session")
def template(
    spark: SparkSession, loaded_classes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Template:
    """The lakes that all faults start from, made once by one of the test processes.

    With them, for there are many commands to start, an archive of what Java loads meanwhile.
    """
    from commands import archive_classes, use_archive
    from lakes import Template, build

    mine = tmp_path_factory.getbasetemp()
    # Processes of one run have their folders side by side.
    shared = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    folder, made = shared / "template", shared / "template-made"
    archive = shared / "classes.jsa"
    with FileLock(shared / "template.lock"):
        if not made.exists():
            folder.mkdir()
            build(spark, folder)
            archive_classes(loaded_classes, archive)
            made.touch()
    use_archive(archive)
    return Template(folder)


@pytest.fixture(scope="session")
def undisturbed(spark: SparkSession, template: Template) -> Picture:
    """The lake after a night that nothing has hit."""
    from lakes import DONE, STAGES, open_at, picture

    whole = picture(open_at(spark, template.folder / DONE))
    assert whole.night[:2] == ("done", None)
    assert set(whole.night[2]) == set(STAGES)
    assert not whole.differences(whole)
    assert all(whole.parts[name] for name in whole.parts), "a table without rows proves nothing"
    return whole


@pytest.fixture(scope="session")
def before(spark: SparkSession, template: Template) -> Callable[[str], str]:
    """The last night in one line, as it stands before one of its jobs; looked at once."""
    from lakes import open_at, picture

    return cache(lambda stage: picture(open_at(spark, template.folder / stage)).brief())


@pytest.fixture
def lake_at(spark: SparkSession, template: Template, tmp_path: Path) -> Callable[[str], Lake]:
    """A copy of the lake as it stands before a job of the last night."""
    from lakes import open_at

    def copy(stage: str) -> Lake:
        return open_at(spark, template.copy(stage, tmp_path / "lake"))

    return copy


# The modules beside this file are not a package.
sys.path.insert(0, str(Path(__file__).parent))
