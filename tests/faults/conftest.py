"""Lakes for fault injection, and the table of all faults that is printed at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from injection import FaultReport, FaultyLake, OpenReport, faulty_lake

if TYPE_CHECKING:
    from lake_snapshot import LakeSnapshot
    from lakes import Template
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

TITLES = ("fault", "before", "after the fault", "after the rerun", "verdict")


@pytest.fixture
def fault_report(record_property: Callable[[str, object], None]) -> OpenReport:
    """Open a line of the table; its verdict stays FAILED when the block raises."""

    @contextmanager
    def open_line(fault: str) -> Iterator[FaultReport]:
        line = FaultReport(fault)
        try:
            yield line
            line.verdict = "as reference" if line.verdict == "FAILED" else line.verdict
        finally:
            # With several test processes, another one prints the table.
            record_property("fault", list(astuple(line)))

    return open_line


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of faults."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    properties = [
        entry
        for report in reports
        if getattr(report, "when", "") == "call"
        for entry in report.user_properties
    ]
    lines = [FaultReport(*value) for name, value in properties if name == "fault"]
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
    num_passed = sum(line.verdict != "FAILED" for line in lines)
    terminalreporter.write_line(f"{num_passed} of {len(lines)} faults passed")


@pytest.fixture(scope="session")
def template(
    spark: SparkSession, loaded_classes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Template:
    """Build the lakes that all faults start from, once for all test processes.

    An archive of Java classes is written beside them, which shortens the start of commands.
    """
    from commands import archive_classes, use_archive
    from lakes import Template, build_template

    own = tmp_path_factory.getbasetemp()
    # Test processes of one run have their folders side by side.
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder, built = shared / "template", shared / "template-built"
    archive = shared / "classes.jsa"
    with FileLock(shared / "template.lock"):
        if not built.exists():
            folder.mkdir()
            build_template(spark, folder)
            archive_classes(loaded_classes, archive)
            built.touch()
    use_archive(archive)
    return Template(folder)


@pytest.fixture(scope="session")
def reference_lake(spark: SparkSession, template: Template) -> LakeSnapshot:
    """Take a snapshot of the lake after a night without any fault."""
    from lake_snapshot import take_snapshot
    from lakes import DONE, STAGES, open_lake

    reference = take_snapshot(open_lake(spark, template.folder / DONE))
    assert reference.night[:2] == ("done", None)
    assert set(reference.night[2]) == set(STAGES)
    assert not reference.differences(reference)
    assert all(reference.rows.values()), "comparing a table without rows proves nothing"
    return reference


@pytest.fixture(scope="session")
def summary_before(spark: SparkSession, template: Template) -> Callable[[str], str]:
    """Return the last night in one line as it is before one of its jobs; read once per job."""
    from lake_snapshot import take_snapshot
    from lakes import open_lake

    return cache(lambda stage: take_snapshot(open_lake(spark, template.folder / stage)).summary())


@pytest.fixture
def lake_before(spark: SparkSession, template: Template, tmp_path: Path) -> Callable[[str], Lake]:
    """Copy the lake as it is before a job of the last night."""
    from lakes import open_lake

    def copy(stage: str) -> Lake:
        return open_lake(spark, template.copy(stage, tmp_path / "lake"))

    return copy


@pytest.fixture
def inject(
    lake_before: Callable[[str], Lake],
    summary_before: Callable[[str], str],
    reference_lake: LakeSnapshot,
    fault_report: OpenReport,
) -> Callable[[str, str], AbstractContextManager[FaultyLake]]:
    """Open a block with a title on a copy of the lake before a job.

    Faults are injected inside the block; when it ends, the night is run again and compared.
    """

    def open_block(title: str, stage: str) -> AbstractContextManager[FaultyLake]:
        lake = lake_before(stage)
        return faulty_lake(fault_report(title), lake, reference_lake, summary_before(stage))

    return open_block
