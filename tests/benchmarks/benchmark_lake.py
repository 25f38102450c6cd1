"""Options and Spark session that the benchmarks share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake

LakeFolder = Annotated[str, typer.Option("--lake", help="Lake with features and mature labels.")]
FirstNight = Annotated[str, typer.Option("--from", help="First night, YYYY-MM-DD.")]
LastNight = Annotated[str, typer.Option("--to", help="Last night, YYYY-MM-DD.")]


@contextmanager
def open_lake(folder: str, **settings: Any) -> Iterator[Lake]:
    """Open a lake in a Spark session of its own; stop the session when the block ends."""
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session

    loaded = load_settings(None, {"lake": folder, **settings})
    spark = open_session(loaded)
    try:
        yield Lake(spark, loaded)
    finally:
        spark.stop()


def dates_between(first: str, last: str) -> Dates:
    """Return the nights between two dates as text, both included."""
    from jobs.lake.dates import Dates

    return Dates(date.fromisoformat(first), date.fromisoformat(last))
