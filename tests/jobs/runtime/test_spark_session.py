"""Spark settings of a session: sized for this machine, or left to the cluster."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.runtime.settings import load_settings
from jobs.runtime.spark_session import spark_settings

CLUSTER = "spark://master.bank.example:7077"


@pytest.fixture(autouse=True)
def clear_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FRAUD_MASTER", "FRAUD_SPARK", "PYSPARK_GATEWAY_PORT"):
        monkeypatch.delenv(name, raising=False)


def settings_for(**settings: Any) -> dict[str, str]:
    return spark_settings(load_settings(None, settings))


def test_local_session_is_sized_by_its_cores() -> None:
    defaults = settings_for()
    assert defaults["spark.master"].startswith("local[")
    assert defaults["spark.driver.host"] == "127.0.0.1"
    assert int(defaults["spark.sql.shuffle.partitions"]) >= 4


def test_cluster_session_is_not_sized_by_the_driver() -> None:
    defaults = settings_for(master=CLUSTER)
    assert defaults["spark.master"] == CLUSTER
    assert "spark.driver.host" not in defaults
    assert "spark.sql.shuffle.partitions" not in defaults


def test_user_settings_override_defaults() -> None:
    chosen = {"spark.driver.host": "scheduler", "spark.sql.shuffle.partitions": "64"}
    for master in (CLUSTER, "local[2]"):
        assert chosen.items() <= settings_for(master=master, spark=chosen).items()


def test_user_jars_are_added_to_delta_jars() -> None:
    defaults = settings_for()["spark.jars"]
    assert "delta-spark" in defaults
    assert (
        settings_for(spark={"spark.jars": "/opt/s3.jar"})["spark.jars"] == f"{defaults},/opt/s3.jar"
    )


def test_user_java_options_are_added_to_the_log_configuration() -> None:
    name = "spark.driver.extraJavaOptions"
    log_option = settings_for()[name]
    assert "log4j2.properties" in log_option
    assert settings_for(spark={name: "-Xss8m"})[name] == f"{log_option} -Xss8m"
