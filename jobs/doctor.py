"""Check this machine and the lake; list what is wrong and what to do about it.

Reads   the environment; the lake's tables, staging and registry when the settings name a lake
Writes  nothing
Fails   never: a check that raises becomes a result with the text of its error

    fraud-scoring doctor --lake L
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.health import machine_checks
from jobs.health.check_result import CheckResult, result_of_error, run_check
from jobs.health.executor_checks import check_executor_packages, check_lake_visibility
from jobs.runtime.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

__all__ = ["CheckResult", "examine", "show"]


def examine(settings: Settings) -> list[CheckResult]:
    """Check the machine, and the lake if the settings name one. Never raises."""
    results = [
        run_check("Java", machine_checks.check_java),
        run_check("Delta's jars", machine_checks.check_jars),
        run_check("packages", machine_checks.check_packages),
        run_check("memory", lambda: machine_checks.check_memory(settings)),
        run_check("GPUs", machine_checks.check_gpus),
        run_check(
            "disk", lambda: machine_checks.check_disk_space("disk", Path(tempfile.gettempdir()))
        ),
    ]
    try:
        with _session(settings) as spark:
            results.append(CheckResult("Spark", "ok", f"Spark {spark.version} starts"))
            results.append(run_check("executors", lambda: check_executor_packages(spark)))
            results += _examine_lake(spark, settings)
    except Exception as error:
        results.append(result_of_error("Spark", error))
    return results


def show(results: list[CheckResult]) -> None:
    """Print the results as a table, with the remedy of those that are not `ok`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "warning": "yellow", "wrong": "bold red"}
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "check", "found"):
        table.add_column(heading)
    for result in results:
        # `Text` does not interpret markup: an error or a path may contain brackets.
        found = Text(result.found)
        if result.remedy:
            found.append(f"\n-> {result.remedy}", style="bold")
        table.add_row(Text(result.status, colours[result.status]), result.name, found)
    Console().print(table)


# -- Spark and the lake --------------------------------------------------------------------------


@contextmanager
def _session(settings: Settings) -> Iterator[SparkSession]:
    """Open a Spark session; stop it at the end unless it was active before."""
    from pyspark.sql import SparkSession

    from jobs.runtime.spark_session import open_session

    was_active = SparkSession.getActiveSession() is not None
    spark = open_session(settings)
    try:
        yield spark
    finally:
        if not was_active:
            spark.stop()


def _examine_lake(spark: SparkSession, settings: Settings) -> list[CheckResult]:
    if not settings.lake:
        return [CheckResult("lake", "ok", "not checked, because the settings name no lake")]
    from jobs.health import lake_checks, night_checks
    from jobs.lake.delta_io import Lake

    lake = Lake(spark, settings)
    first = run_check("lake", lambda: lake_checks.check_lake(lake))
    if first.status == "wrong":
        return [first]
    checks: tuple[tuple[str, Callable[[Lake], CheckResult]], ...] = (
        ("lake on executors", check_lake_visibility),
        ("log store", lake_checks.check_log_store),
        ("tables", lake_checks.check_tables),
        ("logs", lake_checks.check_table_logs),
        ("nights", night_checks.check_nights),
        ("gaps", night_checks.check_gaps),
        ("publications", night_checks.check_publications),
        ("records", night_checks.check_run_records),
        ("staging", night_checks.check_staging),
        ("late rows", lake_checks.check_late_rows),
        ("registry", lake_checks.check_registry),
    )
    return [first, *(run_check(name, partial(check, lake)) for name, check in checks)]
