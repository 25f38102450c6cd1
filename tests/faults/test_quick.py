"""The quick selection of the faults, for every test run: killed in a write, killed before the
record of a commit, and paused in a write. Without a model, so that it is made in a moment.
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


def ingest(small: Template) -> tuple[object, ...]:
    return (
        *("ingest", "--source", small.bank, "--format", "parquet"),
        *("--mapping", "simulated", "--date", DAY),
    )


def test_killed_within_a_write_and_before_a_record(
    spark: SparkSession,
    small: Template,
    whole: Picture,
    tmp_path: Path,
    outcome: Callable[[str], Any],
) -> None:
    """One after the other on one lake: twice killed, and as if it had never been."""
    place = small.copy("ingest", tmp_path / "lake")
    lake = open_at(spark, place)
    with outcome("ingest and features: killed within a write, then before a record") as line:
        line.before = picture(lake, DAY).brief()
        within = Trap("publish", "transactions", "within")
        assert run(place, *ingest(small), trap=within).code == -9
        killed = picture(lake, DAY)
        line.after_fault = killed.brief()
        assert not killed.half_shown(whole)
        assert DAY not in killed.parts["transactions"]
        again = run(place, *ingest(small))
        assert again.code == 0, again.words[-3000:]
        unrecorded = Trap("publish", "features", "after")
        assert run(place, "features", "--date", DAY, trap=unrecorded).code == -9
        assert set(picture(lake, DAY).night[2]) == {"ingest"}
        again = run(place, "features", "--date", DAY)
        assert again.code == 0, again.words[-3000:]
        found = picture(lake, DAY)
        line.after_rerun = found.brief()
        assert not found.differences(whole)


def test_paused_within_a_write(
    spark: SparkSession,
    small: Template,
    whole: Picture,
    tmp_path: Path,
    outcome: Callable[[str], Any],
) -> None:
    place = small.copy("features", tmp_path / "lake")
    lake = open_at(spark, place)
    trap = Trap("publish", "features", "within", act="stop")
    with outcome(f"features: {trap}, woken after another") as line:
        line.before = picture(lake, DAY).brief()
        slow = start(place, "features", "--date", DAY, trap=trap)
        try:
            slow.until_stopped()
            line.after_fault = picture(lake, DAY).brief()
            end_leases(lake)
            quick = run(place, "features", "--date", DAY)
            assert quick.code == 0, quick.words[-3000:]
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
