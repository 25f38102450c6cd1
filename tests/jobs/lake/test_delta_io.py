"""The lake: whole dates are replaced in one commit, pinned versions stay readable."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from feature_defs.errors import UsageError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.lake.delta_io import Lake

pytestmark = pytest.mark.spark

EPOCHS = count(1)


def quarantined(spark: SparkSession, day: date, *names: str) -> DataFrame:
    from jobs.lake.tables import QUARANTINE

    rows = [("source", name, ["reason"], "run", day) for name in names]
    return spark.createDataFrame(rows, QUARANTINE.ddl)


def freely(run_id: str) -> Any:
    """A commit that no lease stands behind."""
    from pyspark.sql import functions as F

    from jobs.lake.delta_io import Commit

    return Commit(run_id, next(EPOCHS), F.lit(True))


def test_publishing_replaces_whole_dates(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.tables import QUARANTINE

    one, two = date(2024, 3, 1), date(2024, 3, 2)
    first = lake.publish(
        QUARANTINE, quarantined(lake.spark, one, "a"), Dates(one, one), freely("run-1")
    )
    lake.publish(QUARANTINE, quarantined(lake.spark, two, "b"), Dates(two, two), freely("run-2"))
    last = lake.publish(
        QUARANTINE, quarantined(lake.spark, one, "c"), Dates(one, one), freely("run-3")
    )
    assert last == lake.version(QUARANTINE) == first + 2
    assert {row["raw"] for row in lake.read(QUARANTINE).collect()} == {"b", "c"}
    assert {row["raw"] for row in lake.read(QUARANTINE, first).collect()} == {"a"}
    newest = lake.delta_table(QUARANTINE).history(1).collect()[0]
    assert "run-3" in newest["userMetadata"]


def test_rows_of_other_dates_cannot_be_published(lake: Lake) -> None:
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import AnalysisException

    from jobs.lake.dates import Dates
    from jobs.lake.tables import QUARANTINE

    one, two = date(2024, 3, 1), date(2024, 3, 2)
    with pytest.raises((AnalysisException, Py4JJavaError), match=r"replaceWhere|REPLACE_WHERE"):
        lake.publish(QUARANTINE, quarantined(lake.spark, two, "a"), Dates(one, one), freely("run"))
    assert lake.version(QUARANTINE) == 0


def test_a_place_that_is_no_lake_is_left_alone(
    make_lake: Callable[..., Lake], tmp_path: Path
) -> None:
    from jobs.lake.delta_io import Lake

    there = make_lake()
    stranger = tmp_path / "photos"
    stranger.mkdir()
    (stranger / "cat.png").write_text("a cat")
    other = Lake(there.spark, there.settings.model_copy(update={"lake": str(stranger)}))
    with pytest.raises(UsageError, match="is not a lake: it has no table `nights`"):
        other.require()
    with pytest.raises(UsageError, match=r"not empty: it holds cat\.png"):
        other.create()
    assert [path.name for path in stranger.iterdir()] == ["cat.png"]
    nowhere = Lake(there.spark, there.settings.model_copy(update={"lake": str(tmp_path / "no")}))
    with pytest.raises(UsageError, match="there is nothing there"):
        nowhere.require()


@pytest.mark.parametrize("part", ["..", "a/b", "", "a\\b", "a\0"])
def test_names_cannot_lead_out_of_the_lake(lake: Lake, part: str) -> None:
    with pytest.raises(UsageError, match="no name of a file"):
        lake.path("_staging", part)


def test_a_write_that_changes_nothing_is_not_taken_for_anothers_commit(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.tables import METRICS, QUARANTINE

    day = date(2024, 3, 1)
    other = lake.spark.createDataFrame([], METRICS.ddl)
    for number in range(3):
        lake.append(METRICS, other, f"run-{number}")
    version = lake.publish(QUARANTINE, quarantined(lake.spark, day), Dates(day, day), freely("run"))
    assert version == lake.version(QUARANTINE)
    assert lake.read(QUARANTINE, version).count() == 0
