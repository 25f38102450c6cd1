"""What all tests share: one Spark session, lakes copied from a template, the handbook's data."""

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
    """Long tests first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def settings_for(lake: Path, **changes: Any) -> Settings:
    """Settings of a small test lake."""
    from jobs.runtime.settings import load_settings

    return load_settings(None, {"lake": str(lake), "alert_budget": 5, **changes})


@pytest.fixture(scope="session")
def loaded_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in which Java lists the classes that it loads for Spark."""
    return tmp_path_factory.mktemp("java") / "classes"


@pytest.fixture(scope="session")
def spark(loaded_classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """The one Spark session of a test process, set up for few rows."""
    from jobs.runtime.spark_session import open_session
    from tests.quick_spark import JAVA_OPTIONS, SPARK

    java = f"{SPARK[JAVA_OPTIONS]} -XX:DumpLoadedClassList={loaded_classes}"
    settings = {**SPARK, JAVA_OPTIONS: java}
    session = open_session(settings_for(tmp_path_factory.mktemp("spark"), spark=settings))
    yield session
    session.stop()


@pytest.fixture(scope="session")
def empty_lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new lake, made once; tests work on copies."""
    from jobs.lake.delta_io import Lake

    place = tmp_path_factory.mktemp("lakes") / "template"
    Lake(spark, settings_for(place)).create()
    return place


@pytest.fixture
def make_lake(spark: SparkSession, empty_lake: Path, tmp_path: Path) -> Callable[..., Lake]:
    """Make a new empty lake; keyword arguments are settings."""

    def make(name: str = "lake", **changes: Any) -> Lake:
        from jobs.lake.delta_io import Lake

        place = tmp_path / name
        shutil.copytree(empty_lake, place)
        return Lake(spark, settings_for(place, **changes))

    return make


@pytest.fixture
def lake(make_lake: Callable[..., Lake]) -> Lake:
    """A new empty lake with default settings, but for a budget of five alerts."""
    return make_lake()


@pytest.fixture(scope="session")
def handbook() -> Path:
    """Folder of the public handbook data."""
    shared = os.environ.get("FRAUD_SHARED")
    if not shared:
        pytest.skip("FRAUD_SHARED is not set: the handbook's data are not there")
    place = Path(shared) / "data"
    if not (place / "handbook_transactions.parquet").exists():
        pytest.skip(f"no handbook_transactions.parquet in {place}")
    return place
