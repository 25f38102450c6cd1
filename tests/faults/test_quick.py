"""A short selection of the faults for every test run: a command paused within a write, another
killed between a commit and its record. The lake has no model, so it is built quickly.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from commands import paused, run
from injection import OpenReport, faulty_lake
from lake_snapshot import LakeSnapshot, take_snapshot
from lakes import FIRST_NIGHT, Template, build_small_template, expire_leases, open_lake
from target_process import FaultPoint

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.slow]

NUM_DAYS = 9
DAY: date = FIRST_NIGHT + timedelta(days=NUM_DAYS - 1)


@pytest.fixture(scope="module")
def small_template(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Template:
    return build_small_template(spark, tmp_path_factory.mktemp("small"), NUM_DAYS)


@pytest.fixture(scope="module")
def reference(spark: SparkSession, small_template: Template) -> LakeSnapshot:
    return take_snapshot(open_lake(spark, small_template.folder / "done"), DAY)


# Slow: builds a lake, then starts three commands, each with a Java of its own.
def test_paused_and_killed_features_runs_leave_no_trace(
    spark: SparkSession,
    small_template: Template,
    reference: LakeSnapshot,
    tmp_path: Path,
    fault_report: OpenReport,
) -> None:
    """One run is paused while it writes, the next is killed after its commit, a third completes."""
    lake = open_lake(spark, small_template.copy("features", tmp_path / "lake"))
    command = ("features", "--date", DAY)
    pause = FaultPoint("publish", "features", "within", action="stop")
    title = "features: one paused within its write, another killed before its record"
    with faulty_lake(fault_report(title), lake, reference) as faulty:
        faulty.rerun_nights = []
        with paused(faulty.folder, *command, fault=pause) as slow:
            assert DAY not in take_snapshot(lake, DAY).rows["features"]
            expire_leases(lake)
            kill = FaultPoint("publish", "features", "after")
            assert run(faulty.folder, *command, fault=kill).code == -9
            killed = faulty.report_fault()
            assert set(killed.night[2]) == {"ingest"}
            run(faulty.folder, *command).checked()
            completed = take_snapshot(lake, DAY)
            slow.resume()
            resumed = slow.wait()
        assert resumed.code == 5, resumed.output[-3000:]
        assert faulty.changed_tables(since=completed) <= {"runs"}
