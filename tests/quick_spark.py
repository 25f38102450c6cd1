"""Spark settings for tables of tens of rows: starting and planning cost more than computing.

The commands of cluster and sameness tests and of the demo keep the product's own settings.
"""

from __future__ import annotations

import json

JAVA_OPTIONS = "spark.driver.extraJavaOptions"
SPARK = {
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    # Re-planning between stages costs a tenth of a short job; sameness and cluster tests do it.
    "spark.sql.adaptive.enabled": "false",
    # With few rows, compiling each plan to Java takes a fifth of the time.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # These commands are too short to gain from Java's optimising compiler. Without it Java would
    # reserve a fifth of the usual code cache, evict code and compile it again: hence the size.
    JAVA_OPTIONS: "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC",
}


def quick_environment(**spark: str) -> dict[str, str]:
    """Return the environment variables that give a command these settings; `spark` adds more."""
    return {"FRAUD_SPARK": json.dumps({**SPARK, **spark}), "FRAUD_DRIVER_MEMORY": "1g"}
