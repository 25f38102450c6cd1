"""Check executors for `doctor`: do they run, have the driver's packages, and see the same lake?

A barrier stage occupies all slots at once, so every executor answers for itself. The functions
are sent by value and import their packages inside, because an executor may lack them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from feature_defs.errors import FraudScoringError
from fraud_models.storage import names_in
from fraud_models.training.distributed import task_slots
from jobs.health.check_result import CheckResult

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

PACKAGES = ("feature_defs", "fraud_models", "jobs")
DISTRIBUTION = "fraud-scoring"
# Executors of a cluster register one by one. They count as complete when none was added for this
# long.
SETTLED_S = 10.0
REGISTRATION_WAIT_S = 90.0

Answer = TypeVar("Answer")


def installed_packages() -> tuple[str, str, tuple[str, ...]]:
    """Return the folder of the packages, their version, and packages found in another folder.

    Runs on the driver and on executors; the results must be equal.
    """
    folders = {}
    for name in PACKAGES:
        file = import_module(name).__file__
        folders[name] = str(Path(file).resolve().parent.parent) if file else "no folder"
    home = folders["jobs"]
    misplaced = tuple(f"{name} in {folder}" for name, folder in folders.items() if folder != home)
    return home, metadata.version(DISTRIBUTION), misplaced


def check_executor_packages(spark: SparkSession) -> CheckResult:
    """Check that executors have the same packages as the driver.

    Raises:
        FraudScoringError: there are no executors.
    """

    def packages_here() -> tuple[str, str, tuple[str, ...]]:
        try:
            from jobs.health.executor_checks import installed_packages
        except ImportError as error:
            import sys

            return sys.executable, "none", (str(error),)
        return installed_packages()

    answers = _run_on_every_slot(spark, packages_here)
    distinct = set(answers)
    versions = sorted({version for _, version, _ in distinct})
    misplaced = sorted({name for _, _, names in distinct for name in names})
    homes = ", ".join(sorted({home for home, _, _ in distinct}))
    own_version = metadata.version(DISTRIBUTION)
    if misplaced or versions != [own_version]:
        return CheckResult(
            "executors",
            "wrong",
            f"executors have fraud-scoring {', '.join(versions)} ({homes}), the driver has "
            + own_version
            + (f"; {', '.join(misplaced)}" if misplaced else ""),
            "give driver and executors the same environment or image, and set its Python as "
            "`spark.pyspark.python` in the setting `spark`.",
        )
    found = f"{len(answers)} slots, fraud-scoring {own_version} in {homes}"
    return CheckResult("executors", "ok", found)


def check_lake_visibility(lake: Lake) -> CheckResult:
    """Check that executors see the same folders in the lake as the driver.

    Raises:
        FraudScoringError: there are no executors.
    """
    uri = lake.uri

    def names_here() -> tuple[str, list[str] | str]:
        import socket

        try:
            from fraud_models.storage import names_in

            return socket.gethostname(), names_in(uri)
        except Exception as error:
            return socket.gethostname(), f"{type(error).__name__}: {error}"

    driver_names = names_in(uri)
    different = {
        host: "nothing" if not names else names if isinstance(names, str) else ", ".join(names)
        for host, names in _run_on_every_slot(lake.spark, names_here)
        if names != driver_names
    }
    if different:
        return CheckResult(
            "lake on executors",
            "wrong",
            f"the driver finds {', '.join(driver_names)} in {uri}, but "
            + "; ".join(f"{host}: {names}" for host, names in sorted(different.items())),
            "move the lake to storage that driver and executors share under one URI, and give "
            "executors the same permissions and libraries (for example `s3fs`).",
        )
    return CheckResult("lake on executors", "ok", "executors see the same lake as the driver")


def _run_on_every_slot(spark: SparkSession, function: Callable[[], Answer]) -> list[Answer]:
    """Run a function once per slot of every executor and return the results."""
    slots = _settled_slots(spark)
    if slots == 0:
        raise FraudScoringError(
            f"No executor registered within {REGISTRATION_WAIT_S:g} s.",
            expected=f"executors from {spark.sparkContext.master}.",
            remedy="open the web page of the cluster and check that workers are alive, that they "
            "have the memory and cores requested by spark.executor.memory and "
            "spark.executor.cores, and that they can connect to spark.driver.host.",
        )
    tasks = spark.sparkContext.parallelize(range(slots), slots)

    def answer(_: object) -> list[Answer]:
        return [function()]

    if spark.sparkContext.getConf().get("spark.dynamicAllocation.enabled", "false") == "true":
        # Spark allows no barrier stage here, so a busy executor may be skipped.
        return tasks.mapPartitions(answer).collect()
    return tasks.barrier().mapPartitions(answer).collect()


def _settled_slots(spark: SparkSession) -> int:
    """Return the number of parallel tasks once no more executors register."""
    deadline = time.monotonic() + REGISTRATION_WAIT_S
    slots = task_slots(spark)
    if spark.sparkContext._jsc.sc().isLocal():
        return slots
    while time.monotonic() < deadline:
        time.sleep(SETTLED_S)
        before, slots = slots, task_slots(spark)
        if slots and slots == before:
            break
    return slots
