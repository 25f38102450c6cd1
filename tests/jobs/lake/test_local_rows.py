"""Rows of the driver become the same table whichever way they are handed to Spark."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from pyspark.testing import assertDataFrameEqual

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark

DDL = (
    "day date NOT NULL, at timestamp, name string, amount decimal(18,3), "
    "pins map<string,bigint>, ids array<string>, "
    "reasons array<struct<feature:string,contribution:double>>"
)
AT = datetime(2024, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
ROWS = [
    (date(2024, 3, 1), AT, "käufer\n", Decimal("1.125"), {"labels": 3}, ["a", "b"], [("x", 0.5)]),
    (date(2024, 3, 2), None, None, None, {}, [], []),
    (date(2024, 3, 3), None, "", Decimal("-0.001"), None, None, None),
]


@pytest.mark.parametrize("num_rows", [0, 1, 3])
def test_local_rows_equal_those_of_create_data_frame(spark: SparkSession, num_rows: int) -> None:
    from jobs.lake.local_rows import local_rows

    rows = ROWS[:num_rows]
    found = local_rows(spark, rows, DDL)
    expected = spark.createDataFrame(rows, DDL.replace(" NOT NULL", ""))
    assert found.schema == expected.schema
    assertDataFrameEqual(found, expected, checkRowOrder=True)


def test_local_rows_need_no_python_task(spark: SparkSession) -> None:
    from jobs.lake.local_rows import local_rows

    plan = local_rows(spark, ROWS, DDL)._jdf.queryExecution().optimizedPlan().toString()
    assert "LocalRelation" in plan and "ExternalRDD" not in plan and "LogicalRDD" not in plan
