"""Versions read from Delta's log in the JVM equal those of `DeltaTable.history`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from delta import DeltaTable
from pyspark.sql import SparkSession

from jobs.lake.commits import newest_version, version_of_run
from jobs.lake.delta_io import Lake
from jobs.lake.tables import QUARANTINE

pytestmark = pytest.mark.spark

ROW = ("bank", "{}", ["too_late"], "ingest-1", None)


def test_newest_version_and_run_of_a_commit_equal_the_history(lake: Lake) -> None:
    spark, table = lake.spark, lake.delta_table(QUARANTINE)
    assert newest_version(spark, table) == 0
    rows = spark.createDataFrame([ROW], QUARANTINE.ddl.replace(" NOT NULL", ""))
    for run_id in ("ingest-1", "ingest-2", "ingest-3"):
        rows.selectExpr("* except (business_date)", "current_date() as business_date").write.format(
            "delta"
        ).mode("append").option("userMetadata", json.dumps({"run_id": run_id})).save(
            f"{lake.uri}/{QUARANTINE.name}"
        )
    expected = {
        json.loads(row["userMetadata"])["run_id"]: row["version"]
        for row in table.history().collect()
        if row["userMetadata"]
    }
    assert expected == {"ingest-1": 1, "ingest-2": 2, "ingest-3": 3}
    assert newest_version(spark, table) == 3
    assert {run_id: version_of_run(spark, table, run_id) for run_id in expected} == expected
    assert version_of_run(spark, table, "ingest-4") is None


def test_a_commit_of_another_process_is_seen(lake: Lake) -> None:
    table = lake.delta_table(QUARANTINE)
    assert newest_version(lake.spark, table) == 0
    commit = {"commitInfo": {"operation": "WRITE", "userMetadata": "written elsewhere"}}
    log = Path(lake.uri, QUARANTINE.name, "_delta_log", f"{1:020d}.json")
    log.write_text(json.dumps(commit) + "\n", encoding="utf-8")
    assert newest_version(lake.spark, table) == 1
    assert version_of_run(lake.spark, table, "written elsewhere") == 1


def test_version_of_a_table_outside_the_lake_equals_its_history(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = str(tmp_path / "source")
    for _ in range(2):
        spark.range(3).write.format("delta").mode("append").save(path)
    table = DeltaTable.forPath(spark, path)
    assert newest_version(spark, table) == table.history(1).collect()[0]["version"] == 1
