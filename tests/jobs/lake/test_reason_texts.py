"""Reasons of earlier versions, which have no texts, stay readable beside new ones."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from jobs.lake.delta_io import Lake

pytestmark = pytest.mark.spark

EARLIER = "struct<feature:string,observed:double,expected:double,contribution:double>"
FIRST, SECOND = date(2018, 8, 1), date(2018, 8, 2)


@pytest.fixture
def lake(empty_lake: Path, tmp_path: Path, spark: SparkSession) -> Lake:
    """Return a lake whose `alerts` has the columns of an earlier version, and one alert."""
    from jobs.lake.delta_io import Lake
    from jobs.lake.tables import ALERTS
    from jobs.runtime.settings import load_settings

    folder = tmp_path / "lake"
    shutil.copytree(empty_lake, folder)
    lake = Lake(spark, load_settings(None, {"lake": str(folder)}))
    shutil.rmtree(folder / "alerts")
    rows = alerts(spark, FIRST, ("card_count_1d", 9.0, 2.5, 1.5), EARLIER)
    writer = rows.write.format("delta").partitionBy("business_date")
    writer.save(str(folder / ALERTS.name))
    return lake


def alerts(spark: SparkSession, day: date, reason: tuple[object, ...], kind: str) -> DataFrame:
    from jobs.lake.tables import ALERTS, REASON

    row = (day, 1, "card", f"tx {day}", 1, 0.99, None, [reason])
    ddl = ALERTS.ddl.replace(REASON, kind).replace(" NOT NULL", "")
    return spark.createDataFrame([row], ddl).coalesce(1)


def publish(lake: Lake, rows: DataFrame, day: date, epoch: int) -> None:
    from pyspark.sql import functions as F

    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Commit
    from jobs.lake.tables import ALERTS

    commit = Commit(f"run-{datetime.now(UTC):%H%M%S%f}", epoch, F.lit(True))
    lake.publish(ALERTS, rows, Dates(day, day), commit)


def reasons(lake: Lake) -> dict[date, list[object]]:
    from jobs.lake.tables import ALERTS
    from jobs.report_pages.page_data import Reason

    rows = lake.read(ALERTS).collect()
    return {row["business_date"]: [Reason.of_row(item) for item in row["reasons"]] for row in rows}


def test_earlier_and_new_reasons_stand_in_one_table(lake: Lake, spark: SparkSession) -> None:
    from jobs.lake.tables import REASON

    number = ("card_count_1d", 9.0, 2.5, None, None)
    # Read by this version before anything was written by it.
    assert reasons(lake) == {FIRST: [number]}
    place = ("transaction_place", None, None, 2.0, "abroad", "home")
    publish(lake, alerts(spark, SECOND, place, REASON), SECOND, epoch=1)
    text = ("transaction_place", None, None, "abroad", "home")
    assert reasons(lake) == {FIRST: [number], SECOND: [text]}
    # The earlier night again, now in the new form, and once more in the earlier form, as an alert
    # that is taken from scores of an earlier version.
    again = ("card_count_1d", 9.0, 2.5, 1.5, None, None)
    publish(lake, alerts(spark, FIRST, again, REASON), FIRST, epoch=2)
    assert reasons(lake) == {FIRST: [number], SECOND: [text]}
    publish(lake, alerts(spark, FIRST, again[:4], EARLIER), FIRST, epoch=3)
    assert reasons(lake) == {FIRST: [number], SECOND: [text]}
