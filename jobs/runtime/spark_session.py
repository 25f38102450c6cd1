"""The Spark session of a command: Delta on, UTC, sized for the machine unless told otherwise."""

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

# Training runs two processes as Spark tasks that must all have a slot at once.
LEAST_CORES = 2


def spark_settings(settings: Settings) -> dict[str, str]:
    """All Spark settings of a session, ours first and the user's on top."""
    cores = max(LEAST_CORES, os.cpu_count() or 1)
    quiet = Path(__file__).with_name("log4j2.properties").as_uri()
    ours = {
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.jars": ",".join(str(jar) for jar in delta_jars()),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(2 * cores),
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # The log snapshot is computed in 50 tasks by default, seconds each commit on few cores.
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.databricks.delta.replaceWhere.constraintCheck.enabled": "true",
        "spark.driver.memory": settings.driver_memory,
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={quiet}",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        # Fail in seconds, not minutes, when training asks for more slots than there are.
        "spark.scheduler.barrier.maxConcurrentTasksCheck.maxFailures": "3",
        "spark.scheduler.barrier.maxConcurrentTasksCheck.interval": "2s",
        "spark.sql.warehouse.dir": str(Path(tempfile.gettempdir()) / "fraud-scoring-warehouse"),
    }
    if settings.master or "PYSPARK_GATEWAY_PORT" not in os.environ:
        ours["spark.master"] = settings.master or f"local[{cores}]"
    if not ours.get("spark.master", "").startswith("local"):
        # On a cluster the driver's address is for the cluster to decide, and how many cores the
        # driver's machine has says nothing: Spark cuts its own default down to what is needed.
        del ours["spark.driver.host"], ours["spark.sql.shuffle.partitions"]
    else:
        # Driver and executor are one process here: after a task's fatal error it has to live on
        # for long enough to say why.
        ours["spark.executor.killOnFatalError.depth"] = "0"
    theirs = dict(settings.spark)
    # Further jars (an object store's, say) come beside Delta's, not in their place; of two options
    # of Java that say the same the later holds.
    for name, between in (("spark.jars", ","), ("spark.driver.extraJavaOptions", " ")):
        if name in theirs:
            theirs[name] = f"{ours[name]}{between}{theirs[name]}"
    return {**ours, **theirs}


def open_session(settings: Settings) -> SparkSession:
    """Start Spark, or return the session that already runs in this process."""
    use_java()
    os.environ.setdefault("PYTHONWARNINGS", "ignore::FutureWarning")
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

    wanted = spark_settings(settings)
    if wanted.get("spark.master", "").startswith("local"):
        # Workers on this machine are the same Python, whatever comes first on the path.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    elif "spark.pyspark.python" in wanted:
        # Spark itself heeds this setting in spark-submit only.
        os.environ["PYSPARK_PYTHON"] = wanted["spark.pyspark.python"]
    conf = SparkConf().setAppName("fraud-scoring")
    for name, value in wanted.items():
        conf.set(name, value)
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark
