"""The quick selection of the faults, for every test run: paused within a write, and killed before
the record of a commit. Without a model, so that it is made in a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from commands import run, start
from lakes import FIRST, Picture, Template, build_small, end_leases, open_at, picture
from victim import Trap

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.slow]

NUM_DAYS = 9
DAY: date = FIRST + timedelta(days=NUM_DAYS - 1)


@pytest.fixture(scope="module")
def small(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Template:
    return build_small(spark, tmp_path_factory.mktemp("small"), NUM_DAYS)


@pytest.fixture(scope="module")
def whole(spark: SparkSession, small: Template) -> Picture:
    return picture(open_at(spark, small.folder / "done"), DAY)


def test_paused_within_a_write_and_killed_before_a_record(
    spark: SparkSession,
    small: Template,
    whole: Picture,
    tmp_path: Path,
    outcome: Callable[[str], Any],
) -> None:
    """One run sleeps while it writes, the next is killed once it has written, a third does all."""
    place = small.copy("features", tmp_path / "lake")
    lake = open_at(spark, place)
    command = ("features", "--date", DAY)
    with outcome("features: paused within its write; another killed before its record") as line:
        line.before = picture(lake, DAY).brief()
        slow = start(place, *command, trap=Trap("publish", "features", "within", act="stop"))
        try:
            slow.until_stopped()
            assert DAY not in picture(lake, DAY).parts["features"]
            end_leases(lake)
            assert run(place, *command, trap=Trap("publish", "features", "after")).code == -9
            killed = picture(lake, DAY)
            line.after_fault = killed.brief()
            assert not killed.half_shown(whole)
            assert set(killed.night[2]) == {"ingest"}
            again = run(place, *command)
            assert again.code == 0, again.words[-3000:]
            between = picture(lake, DAY)
            slow.wake()
            woken = slow.end()
        finally:
            slow.kill()
        assert woken.code == 5, woken.words[-3000:]
        found = picture(lake, DAY)
        line.after_rerun = found.brief()
        assert {n for n, v in found.versions.items() if v != between.versions[n]} <= {"runs"}
        assert not found.differences(whole)
