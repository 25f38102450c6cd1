"""`Lake`: publishing whole dates in one commit, pinned versions, creation and paths."""

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
    """Return rows for `quarantine`, one per raw text."""
    from jobs.lake.tables import QUARANTINE

    rows = [("source", name, ["reason"], "run", day) for name in names]
    return spark.createDataFrame(rows, QUARANTINE.ddl)


def unfenced(run_id: str) -> Any:
    """Return a commit whose fence always passes."""
    from pyspark.sql import functions as F

    from jobs.lake.delta_io import Commit

    return Commit(run_id, next(EPOCHS), F.lit(True))


def test_publish_replaces_whole_dates(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.tables import QUARANTINE

    one, two = date(2024, 3, 1), date(2024, 3, 2)
    first = lake.publish(
        QUARANTINE, quarantined(lake.spark, one, "a"), Dates(one, one), unfenced("run-1")
    )
    lake.publish(QUARANTINE, quarantined(lake.spark, two, "b"), Dates(two, two), unfenced("run-2"))
    last = lake.publish(
        QUARANTINE, quarantined(lake.spark, one, "c"), Dates(one, one), unfenced("run-3")
    )
    assert last == lake.version(QUARANTINE) == first + 2
    assert {row["raw"] for row in lake.read(QUARANTINE).collect()} == {"b", "c"}
    assert {row["raw"] for row in lake.read(QUARANTINE, first).collect()} == {"a"}
    newest = lake.delta_table(QUARANTINE).history(1).collect()[0]
    assert "run-3" in newest["userMetadata"]


def test_publish_rows_of_other_dates_raises(lake: Lake) -> None:
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import AnalysisException

    from jobs.lake.dates import Dates
    from jobs.lake.tables import QUARANTINE

    one, two = date(2024, 3, 1), date(2024, 3, 2)
    with pytest.raises((AnalysisException, Py4JJavaError), match=r"replaceWhere|REPLACE_WHERE"):
        lake.publish(
            QUARANTINE, quarantined(lake.spark, two, "a"), Dates(one, one), unfenced("run")
        )
    assert lake.version(QUARANTINE) == 0


def test_folder_that_is_not_a_lake_is_not_changed(
    make_lake: Callable[..., Lake], tmp_path: Path
) -> None:
    from jobs.lake.delta_io import Lake

    there = make_lake()
    other_folder = tmp_path / "photos"
    other_folder.mkdir()
    (other_folder / "cat.png").write_text("a cat")
    other = Lake(there.spark, there.settings.model_copy(update={"lake": str(other_folder)}))
    with pytest.raises(UsageError, match="is not a lake: it has no table `nights`"):
        other.require()
    with pytest.raises(UsageError, match=r"not empty: it contains cat\.png"):
        other.create()
    assert [path.name for path in other_folder.iterdir()] == ["cat.png"]
    nowhere = Lake(there.spark, there.settings.model_copy(update={"lake": str(tmp_path / "no")}))
    with pytest.raises(UsageError, match="the path does not exist"):
        nowhere.require()


@pytest.mark.parametrize("part", ["..", "a/b", "", "a\\b", "a\0"])
def test_path_outside_the_lake_is_refused(lake: Lake, part: str) -> None:
    with pytest.raises(UsageError, match="not a valid name of a file"):
        lake.path("_staging", part)


def test_publish_without_changes_returns_the_newest_version(lake: Lake) -> None:
    from jobs.lake.dates import Dates
    from jobs.lake.tables import METRICS, QUARANTINE

    day = date(2024, 3, 1)
    other = lake.spark.createDataFrame([], METRICS.ddl)
    for number in range(3):
        lake.append(METRICS, other, f"run-{number}")
    version = lake.publish(
        QUARANTINE, quarantined(lake.spark, day), Dates(day, day), unfenced("run")
    )
    assert version == lake.version(QUARANTINE)
    assert lake.read(QUARANTINE, version).count() == 0
