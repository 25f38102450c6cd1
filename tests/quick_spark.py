"""Spark settings for tables of tens of rows, where starting and planning take most of the time.

The cluster tests and the demo keep the settings of production. The sameness tests plan adaptively,
as production does (fixture `adaptive_planning`).
"""

from __future__ import annotations

import json

JAVA_OPTIONS = "spark.driver.extraJavaOptions"
SPARK = {
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    # Adaptive planning takes a tenth of a short job.
    "spark.sql.adaptive.enabled": "false",
    # Compiling each plan to Java takes a fifth of the time when rows are few.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # The commands are too short to gain from Java's optimising compiler. Without that compiler,
    # Java reserves only a fifth of the usual code cache, evicts code and compiles it again, so the
    # size is set.
    JAVA_OPTIONS: "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC",
}


def quick_environment(**spark: str) -> dict[str, str]:
    """Return the environment variables that pass these settings and `spark` to a command."""
    return {"FRAUD_SPARK": json.dumps({**SPARK, **spark}), "FRAUD_DRIVER_MEMORY": "1g"}
