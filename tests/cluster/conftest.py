"""Start a standalone cluster, and drivers that use it or one machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.standalone import (
    LOOPBACK,
    SPARK_HOME,
    WORKER_MEMORY,
    Driver,
    StandaloneCluster,
    running_cluster,
)
from tests.cluster.worker_environment import make_worker_python


def names_in_spark_home() -> set[str]:
    """Return the names in Spark's own folder, the default work folder of a worker."""
    return {path.name for path in SPARK_HOME.iterdir()} - {"__pycache__"}


@pytest.fixture(scope="module")
def worker_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create the workers' Python, which has our packages from the wheel only."""
    return make_worker_python(tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneCluster]:
    """Start a master and two one-core workers; check that they leave nothing behind."""
    before = names_in_spark_home()
    with running_cluster(tmp_path_factory.mktemp("cluster") / "home") as cluster:
        yield cluster
    assert cluster.processes() == []
    assert names_in_spark_home() == before


@pytest.fixture(scope="module")
def on_cluster(
    cluster: StandaloneCluster, worker_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Driver:
    """Return a driver whose commands run on the cluster's executors."""
    spark = {
        "spark.pyspark.python": str(worker_python),
        "spark.executor.memory": WORKER_MEMORY,
        "spark.driver.host": LOOPBACK,
        # Several tasks per executor even with few rows.
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
    }
    return Driver(tmp_path_factory.mktemp("driver") / "cluster", cluster.master, spark)


@pytest.fixture(scope="module")
def on_one_machine(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """Return a driver whose commands run in one process, with other partitions."""
    spark = {"spark.sql.shuffle.partitions": "7"}
    return Driver(tmp_path_factory.mktemp("driver") / "local", "local[2]", spark)
