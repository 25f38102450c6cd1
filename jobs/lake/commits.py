"""Read the newest version of a table, and the version that a run committed, from Delta's log.

`DeltaTable.history` starts a Spark job, even for one commit, and a night asks for versions many
times. So these functions call Delta's `DeltaLog` in the JVM, which needs no job. `DeltaLog` is not
part of Delta's public interface. The pinned version of Delta has it, and
`tests/jobs/lake/test_commits.py` compares both ways.
"""

from __future__ import annotations

import json
from typing import Any

from delta import DeltaTable
from pyspark.sql import SparkSession

# Other runs may commit between a write and this lookup, but not this often.
MAX_COMMITS_SEARCHED = 20


def newest_version(spark: SparkSession, table: DeltaTable) -> int:
    """Return the newest version of a table."""
    nothing = _jvm(spark).scala.Option.empty()
    # Arguments: whether a stale snapshot is enough, the oldest time for one, a catalog table.
    return int(_log(table).update(False, nothing, nothing).version())


def version_of_run(spark: SparkSession, table: DeltaTable, run_id: str) -> int | None:
    """Return the newest version that a run committed, or `None` if it made no recent commit."""
    newest = newest_version(spark, table)
    for version in range(newest, max(-1, newest - MAX_COMMITS_SEARCHED), -1):
        if run_id in _user_metadata(spark, table, version):
            return version
    return None


def _user_metadata(spark: SparkSession, table: DeltaTable, version: int) -> str:
    """Return the user metadata of a commit; empty if it has none."""
    log = _log(table)
    names = _jvm(spark).org.apache.spark.sql.delta.util.FileNames
    lines = log.store().read(
        names.unsafeDeltaFile(log.logPath(), version), log.newDeltaHadoopConf()
    )
    for line in lines.mkString("\n").splitlines():
        action = json.loads(line)
        if "commitInfo" in action:
            return str(action["commitInfo"].get("userMetadata") or "")
    return ""


def _log(table: DeltaTable) -> Any:
    return table._jdt.deltaLog()


def _jvm(spark: SparkSession) -> Any:
    return spark._jvm
