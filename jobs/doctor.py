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

from jobs.health.check_result import GIB, CheckResult, check_disk_space, result_of_error, run_check
from jobs.health.executor_checks import (
    check_executor_packages,
    check_lake_visibility,
    installed_packages,
)
from jobs.runtime.java import delta_jars, find_java, java_version
from jobs.runtime.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

__all__ = ["CheckResult", "examine", "show"]

SETUP = "run `make setup`, or install Java 17 and set JAVA_HOME."


def examine(settings: Settings) -> list[CheckResult]:
    """Check the machine, and the lake if the settings name one. Never raises."""
    results = [
        run_check("Java", _java),
        run_check("Delta's jars", _jars),
        run_check("packages", _packages),
        run_check("memory", lambda: _memory(settings)),
        run_check("GPUs", _gpus),
        run_check("disk", lambda: check_disk_space("disk", Path(tempfile.gettempdir()))),
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


# -- the machine ---------------------------------------------------------------------------------


def _java() -> CheckResult:
    home = find_java()
    if home is None:
        return CheckResult("Java", "wrong", "Java 17 or 21 was not found", SETUP)
    version = java_version(home / "bin" / "java")
    if version is None:
        return CheckResult("Java", "wrong", f"the Java in {home} does not start", SETUP)
    return CheckResult("Java", "ok", f"Java {version} in {home}")


def _jars() -> CheckResult:
    jars = delta_jars()
    return CheckResult("Delta's jars", "ok", f"{len(jars)} in {jars[0].parent}")


def _packages() -> CheckResult:
    home, version, misplaced = installed_packages()
    if misplaced:
        return CheckResult(
            "packages",
            "wrong",
            f"jobs {version} is installed in {home}, but {', '.join(misplaced)}",
            "install fraud-scoring into an environment of its own; other packages use these names.",
        )
    return CheckResult("packages", "ok", f"fraud-scoring {version} in {home}")


def _memory(settings: Settings) -> CheckResult:
    needed = _parse_bytes(settings.driver_memory)
    available = _available_memory()
    if available is None:
        return CheckResult("memory", "ok", "this system does not report its free memory")
    found = f"{available / GIB:.1f} GiB free; the driver may take {settings.driver_memory}"
    if available < needed:
        remedy = "decrease driver_memory (FRAUD_DRIVER_MEMORY), or stop other programs."
        return CheckResult("memory", "warning", found, remedy)
    return CheckResult("memory", "ok", found)


def _available_memory() -> int | None:
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _parse_bytes(text: str) -> int:
    """Return the number of bytes of a size in Spark's notation.

    >>> _parse_bytes("4g") == 4 * GIB, _parse_bytes("512m") == GIB // 2
    (True, True)
    """
    units = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
    number = text.strip().lower().removesuffix("b")
    factor = units.get(number[-1:], 1)
    return int(number.rstrip("kmgt")) * factor


def _gpus() -> CheckResult:
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        return CheckResult("GPUs", "ok", "none; training runs on the CPU")
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    return CheckResult("GPUs", "ok", f"{count}: {names}")


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
