"""Settings of the Spark session that hold for one block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jobs.lake.delta_io import Lake


@contextmanager
def commits_signed_by(lake: Lake, run_id: str) -> Iterator[None]:
    """Commits of commands that take no options carry the run's id too."""
    name = "spark.databricks.delta.commitInfo.userMetadata"
    with temporary_setting(lake, name, f'{{"run_id": "{run_id}"}}'):
        yield


@contextmanager
def temporary_setting(lake: Lake, name: str, value: str) -> Iterator[None]:
    """A setting of the session, for a while."""
    before = lake.spark.conf.get(name, None)
    lake.spark.conf.set(name, value)
    try:
        yield
    finally:
        if before is None:
            lake.spark.conf.unset(name)
        else:
            lake.spark.conf.set(name, before)
