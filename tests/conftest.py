"""Shared fixtures: one Spark session, lakes copied from a template, the handbook data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import Settings


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow tests first, so that no test process has to finish one alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def settings_for(lake: Path, **changes: Any) -> Settings:
    """Return the settings of a small test lake."""
    from jobs.runtime.settings import load_settings

    return load_settings(None, {"lake": str(lake), "alert_budget": 5, **changes})


@pytest.fixture(scope="session")
def loaded_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file in which Java lists the classes that it loads for Spark."""
    return tmp_path_factory.mktemp("java") / "classes"


@pytest.fixture(scope="session")
def spark(loaded_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """Yield the one Spark session of a test process, set up for few rows."""
    from jobs.runtime.spark_session import open_session
    from tests.quick_spark import JAVA_OPTIONS, SPARK

    java = f"{SPARK[JAVA_OPTIONS]} -XX:DumpLoadedClassList={loaded_classes}"
    settings = {**SPARK, JAVA_OPTIONS: java}
    session = open_session(settings_for(tmp_path_factory.mktemp("spark"), spark=settings))
    yield session
    session.stop()


@pytest.fixture(scope="module")
def adaptive_planning(spark: SparkSession) -> Iterator[None]:
    """Plan adaptively in a module, as production does."""
    name = "spark.sql.adaptive.enabled"
    before = spark.conf.get(name)
    spark.conf.set(name, "true")
    yield
    spark.conf.set(name, before)


@pytest.fixture(scope="session")
def empty_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create an empty lake once; tests work on copies of it."""
    from jobs.lake.delta_io import Lake

    path = tmp_path_factory.mktemp("lakes") / "template"
    Lake(spark, settings_for(path)).create()
    return path


@pytest.fixture
def make_lake(spark: SparkSession, empty_lake: Path, tmp_path: Path) -> Callable[..., Lake]:
    """Return a function that creates an empty lake; its keyword arguments are settings."""

    def make(name: str = "lake", **changes: Any) -> Lake:
        from jobs.lake.delta_io import Lake

        path = tmp_path / name
        shutil.copytree(empty_lake, path)
        return Lake(spark, settings_for(path, **changes))

    return make


@pytest.fixture
def lake(make_lake: Callable[..., Lake]) -> Lake:
    """Create an empty lake with default settings, except for an alert budget of 5."""
    return make_lake()


@pytest.fixture(scope="session")
def handbook() -> Path:
    """Return the folder of the public handbook data; skip the test without it."""
    shared = os.environ.get("FRAUD_SHARED")
    if not shared:
        pytest.skip("FRAUD_SHARED is not set: the handbook data are missing")
    path = Path(shared) / "data"
    if not (path / "handbook_transactions.parquet").exists():
        pytest.skip(f"no handbook_transactions.parquet in {path}")
    return path
