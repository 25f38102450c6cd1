"""The settings of a session: sized for this machine, or left to the cluster."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.runtime.settings import load_settings
from jobs.runtime.spark_session import spark_settings

CLUSTER = "spark://master.bank.example:7077"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FRAUD_MASTER", "FRAUD_SPARK", "PYSPARK_GATEWAY_PORT"):
        monkeypatch.delenv(name, raising=False)


def of(**settings: Any) -> dict[str, str]:
    return spark_settings(load_settings(None, settings))


def test_one_machine_is_sized_by_its_cores() -> None:
    ours = of()
    assert ours["spark.master"].startswith("local[")
    assert ours["spark.driver.host"] == "127.0.0.1"
    assert int(ours["spark.sql.shuffle.partitions"]) >= 4


def test_a_cluster_is_not_sized_by_the_driver() -> None:
    ours = of(master=CLUSTER)
    assert ours["spark.master"] == CLUSTER
    assert "spark.driver.host" not in ours
    assert "spark.sql.shuffle.partitions" not in ours


def test_what_the_user_says_wins() -> None:
    named = {"spark.driver.host": "scheduler", "spark.sql.shuffle.partitions": "64"}
    for master in (CLUSTER, "local[2]"):
        assert named.items() <= of(master=master, spark=named).items()


def test_further_jars_come_beside_deltas() -> None:
    ours = of()["spark.jars"]
    assert "delta-spark" in ours
    assert of(spark={"spark.jars": "/opt/s3.jar"})["spark.jars"] == f"{ours},/opt/s3.jar"


def test_java_options_come_beside_the_one_that_keeps_spark_quiet() -> None:
    name = "spark.driver.extraJavaOptions"
    quiet = of()[name]
    assert "log4j2.properties" in quiet
    assert of(spark={name: "-Xss8m"})[name] == f"{quiet} -Xss8m"
