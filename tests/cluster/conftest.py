"""A cluster for the tests of this folder, and drivers on it and beside it."""

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
    """What lies in Spark's own folder, which a worker writes to unless told otherwise."""
    return {path.name for path in SPARK_HOME.iterdir()} - {"__pycache__"}


@pytest.fixture(scope="module")
def worker_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of the workers: our packages from the wheel, apart from the checkout."""
    return make_worker_python(tmp_path_factory.mktemp("worker"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneCluster]:
    """A master and two one-core workers; nothing of them is left afterwards."""
    before = names_in_spark_home()
    with running_cluster(tmp_path_factory.mktemp("cluster") / "home") as cluster:
        yield cluster
    assert cluster.processes() == []
    assert names_in_spark_home() == before


@pytest.fixture(scope="module")
def on_cluster(
    cluster: StandaloneCluster, worker_python: Path, tmp_path_factory: pytest.TempPathFactory
) -> Driver:
    """Commands whose work is done by the cluster's executors."""
    spark = {
        "spark.pyspark.python": str(worker_python),
        "spark.executor.memory": WORKER_MEMORY,
        "spark.driver.host": LOOPBACK,
        # Several tasks for each executor, however few the rows.
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
    }
    return Driver(tmp_path_factory.mktemp("driver") / "cluster", cluster.master, spark)


@pytest.fixture(scope="module")
def on_one_machine(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """The same commands in one process, with the work cut in other pieces."""
    spark = {"spark.sql.shuffle.partitions": "7"}
    return Driver(tmp_path_factory.mktemp("driver") / "local", "local[2]", spark)
