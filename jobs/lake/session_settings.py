"""Spark session settings that apply to one block of code and are restored after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from jobs.lake.delta_io import Lake

COMMIT_METADATA = "spark.databricks.delta.commitInfo.userMetadata"


@contextmanager
def commits_tagged_with(lake: Lake, run_id: str) -> Iterator[None]:
    """Write the run id into the metadata of each Delta commit in the block.

    Needed for OPTIMIZE and VACUUM, which accept no writer options.
    """
    with temporary_setting(lake, COMMIT_METADATA, f'{{"run_id": "{run_id}"}}'):
        yield


@contextmanager
def temporary_setting(lake: Lake, name: str, value: str) -> Iterator[None]:
    """Set a Spark setting for the block, then restore its previous value."""
    before = lake.spark.conf.get(name, None)
    lake.spark.conf.set(name, value)
    try:
        yield
    finally:
        if before is None:
            lake.spark.conf.unset(name)
        else:
            lake.spark.conf.set(name, before)
