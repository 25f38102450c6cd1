"""Say what is wrong with this machine or this lake, and what to do about it.

Reads   the environment; the lake's tables, staging and registry when a lake is named
Writes  nothing
Fails   never: a check that crashes is a finding with the text of its error

    fraud-scoring doctor --lake L
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.health.check_result import GIB, CheckResult, checked, crashed, disk
from jobs.health.executor_checks import check_lake_visibility, installed, packages
from jobs.runtime.java import delta_jars, find_java, java_version
from jobs.runtime.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

__all__ = ["CheckResult", "examine", "show"]

SETUP = "run `make setup`, or install Java 17 and set JAVA_HOME."


def examine(settings: Settings) -> list[CheckResult]:
    """Check the machine, and the lake when one is named. Never raises."""
    findings = [
        checked("Java", _java),
        checked("Delta's jars", _jars),
        checked("packages", _packages),
        checked("memory", lambda: _memory(settings)),
        checked("GPUs", _gpus),
        checked("disk", lambda: disk("disk", Path(tempfile.gettempdir()))),
    ]
    try:
        with _session(settings) as spark:
            findings.append(CheckResult("Spark", "ok", f"Spark {spark.version} starts"))
            findings.append(checked("executors", lambda: packages(spark)))
            findings += _examine_lake(spark, settings)
    except Exception as error:
        findings.append(crashed("Spark", error))
    return findings


def show(findings: list[CheckResult]) -> None:
    """Print the findings as a table, and what to do about those that are not fine."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"ok": "green", "warning": "yellow", "wrong": "bold red"}
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "check", "found"):
        table.add_column(heading)
    for finding in findings:
        # Text takes nothing for markup: an error or a path may hold brackets.
        found = Text(finding.found)
        if finding.remedy:
            found.append(f"\n-> {finding.remedy}", style="bold")
        table.add_row(Text(finding.status, colours[finding.status]), finding.name, found)
    Console().print(table)


# -- the machine ---------------------------------------------------------------------------------


def _java() -> CheckResult:
    home = find_java()
    if home is None:
        return CheckResult("Java", "wrong", "no Java 17 or 21 was found", SETUP)
    version = java_version(home / "bin" / "java")
    if version is None:
        return CheckResult("Java", "wrong", f"the Java in {home} does not run", SETUP)
    return CheckResult("Java", "ok", f"Java {version} in {home}")


def _jars() -> CheckResult:
    jars = delta_jars()
    return CheckResult("Delta's jars", "ok", f"{len(jars)} in {jars[0].parent}")


def _packages() -> CheckResult:
    home, version, strays = installed()
    if strays:
        return CheckResult(
            "packages",
            "wrong",
            f"jobs {version} lies in {home}, but {', '.join(strays)}",
            "install fraud-scoring into an environment of its own; something else has these names.",
        )
    return CheckResult("packages", "ok", f"fraud-scoring {version} in {home}")


def _memory(settings: Settings) -> CheckResult:
    wanted = _bytes(settings.driver_memory)
    available = _available_memory()
    if available is None:
        return CheckResult("memory", "ok", "this system does not say how much memory is free")
    found = f"{available / GIB:.1f} GiB free; the driver may take {settings.driver_memory}"
    if available < wanted:
        remedy = "set driver_memory (FRAUD_DRIVER_MEMORY) lower, or end other programs."
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


def _bytes(text: str) -> int:
    """Bytes of a size as Spark writes it.

    >>> _bytes("4g") == 4 * GIB, _bytes("512m") == GIB // 2
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
    names = ", ".join(torch.cuda.get_device_name(place) for place in range(count))
    return CheckResult("GPUs", "ok", f"{count}: {names}")


# -- Spark and the lake --------------------------------------------------------------------------


@contextmanager
def _session(settings: Settings) -> Iterator[SparkSession]:
    """A session; one that was there before stays."""
    from pyspark.sql import SparkSession

    from jobs.runtime.spark_session import open_session

    was_there = SparkSession.getActiveSession() is not None
    spark = open_session(settings)
    try:
        yield spark
    finally:
        if not was_there:
            spark.stop()


def _examine_lake(spark: SparkSession, settings: Settings) -> list[CheckResult]:
    if not settings.lake:
        return [CheckResult("lake", "ok", "none was named, so none was examined")]
    from jobs.health import lake_checks, night_checks
    from jobs.lake.delta_io import Lake

    lake = Lake(spark, settings)
    first = checked("lake", lambda: lake_checks.is_lake(lake))
    if first.status == "wrong":
        return [first]
    checks: tuple[tuple[str, Callable[[Lake], CheckResult]], ...] = (
        ("lake on executors", check_lake_visibility),
        ("log store", lake_checks.log_store),
        ("tables", lake_checks.tables),
        ("logs", lake_checks.logs),
        ("nights", night_checks.nights),
        ("gaps", night_checks.gaps),
        ("publications", night_checks.publications),
        ("records", night_checks.records),
        ("staging", night_checks.left_in_staging),
        ("late rows", lake_checks.late_rows),
        ("registry", lake_checks.registry),
    )
    return [first, *(checked(name, partial(check, lake)) for name, check in checks)]
