"""The Spark session of a command: with Delta, in UTC, sized for this machine by default."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.runtime.java import delta_jars, use_java
from jobs.runtime.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Training runs two processes as Spark tasks that need their slots at the same time.
MIN_CORES = 2


def spark_settings(settings: Settings) -> dict[str, str]:
    """Return all Spark settings of a session: our defaults, overridden by the user's settings."""
    cores = max(MIN_CORES, os.cpu_count() or 1)
    quiet = Path(__file__).with_name("log4j2.properties").as_uri()
    ours = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.jars": ",".join(str(jar) for jar in delta_jars()),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(2 * cores),
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        # Otherwise Spark refuses a file with times in nanoseconds (jobs/deliveries/nanoseconds.py).
        "spark.sql.legacy.parquet.nanosAsLong": "true",
        # Otherwise Spark reads CSV in a few encodings only: not in cp1252, which Excel writes.
        "spark.sql.legacy.javaCharsets": "true",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # Delta's default of 50 tasks per log snapshot costs seconds per commit on few cores.
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.databricks.delta.replaceWhere.constraintCheck.enabled": "true",
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={quiet}",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # Fail within seconds, not minutes, if training needs more slots than available.
        "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "3",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "2s",
        "spark.sql.warehouse.dir": str(Path(tempfile.gettempdir()) / "fraud-scoring-warehouse"),
    }
    if settings.master or "PYSPARK_GATEWAY_PORT" not in os.environ:
        ours["spark.master"] = settings.master or f"local[{cores}]"
    if not ours.get("spark.master", "").startswith("local"):
        # On a cluster, the cluster chooses the driver's address. The driver's number of cores does
        # not matter there: Spark reduces its default number of partitions as needed.
        del ours["spark.driver.host"], ours["spark.sql.shuffle.partitions"]
    else:
        # Driver and executor are one process here: after a fatal error of a task it must live long
        # enough to report the cause.
        ours["spark.executor.killOnFatalError.depth"] = "0"
    theirs = dict(settings.spark)
    # Add the user's jars (of an object store, for example) to Delta's instead of replacing them. If
    # a Java option occurs twice, the later one applies.
    for name, separator in (("spark.jars", ","), ("spark.driver.extraJavaOptions", " ")):
        if name in theirs:
            theirs[name] = f"{ours[name]}{separator}{theirs[name]}"
    return {**ours, **theirs}


def open_session(settings: Settings) -> SparkSession:
    """Start Spark, or return the session that is already running in this process."""
    use_java()
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

    wanted = spark_settings(settings)
    if wanted.get("spark.master", "").startswith("local"):
        # Make local workers use this Python, not the first one on the path.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    elif "spark.pyspark.python" in wanted:
        # Spark applies this setting in spark-submit only.
        os.environ["PYSPARK_PYTHON"] = wanted["spark.pyspark.python"]
    conf = SparkConf().setAppName("fraud-scoring")
    for name, value in wanted.items():
        conf.set(name, value)
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark
