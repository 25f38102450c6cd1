"""What `doctor` asks of executors: are they there, have they the driver's packages, the lake?

All are asked at once: a barrier stage takes every slot, so no executor answers for another.
Questions travel by value and import inside, because an executor may lack the packages.
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
# Executors of a cluster register one by one; when none came for a while, these are all.
SETTLED_S = 10.0
REGISTRATION_WAIT_S = 90.0

Answer = TypeVar("Answer")


def installed() -> tuple[str, str, tuple[str, ...]]:
    """Folder of the packages, the version installed, and the names of packages that lie elsewhere.

    Runs on the driver and on executors, which must agree.
    """
    folders = {}
    for name in PACKAGES:
        file = import_module(name).__file__
        folders[name] = str(Path(file).resolve().parent.parent) if file else "no folder"
    home = folders["jobs"]
    strays = tuple(f"{name} in {folder}" for name, folder in folders.items() if folder != home)
    return home, metadata.version(DISTRIBUTION), strays


def packages(spark: SparkSession) -> CheckResult:
    """Whether executors have the packages of the driver.

    Raises:
        FraudScoringError: there are no executors.
    """

    def look() -> tuple[str, str, tuple[str, ...]]:
        try:
            from jobs.health.executor_checks import installed
        except ImportError as error:
            import sys

            return sys.executable, "none", (str(error),)
        return installed()

    answers = _ask_all(spark, look)
    theirs = set(answers)
    versions = sorted({version for _, version, _ in theirs})
    strays = sorted({stray for _, _, names in theirs for stray in names})
    homes = ", ".join(sorted({home for home, _, _ in theirs}))
    ours = metadata.version(DISTRIBUTION)
    if strays or versions != [ours]:
        return CheckResult(
            "executors",
            "wrong",
            f"executors have fraud-scoring {', '.join(versions)} ({homes}) and the driver {ours}"
            + (f"; {', '.join(strays)}" if strays else ""),
            "give driver and executors the same environment or image, and name its Python with "
            "`spark.pyspark.python` among the settings `spark`.",
        )
    return CheckResult("executors", "ok", f"{len(answers)} slots, fraud-scoring {ours} in {homes}")


def check_lake_visibility(lake: Lake) -> CheckResult:
    """Whether executors find in the lake's place what the driver finds there.

    Raises:
        FraudScoringError: there are no executors.
    """
    uri = lake.uri

    def look() -> tuple[str, list[str] | str]:
        import socket

        try:
            from fraud_models.storage import names_in

            return socket.gethostname(), names_in(uri)
        except Exception as error:
            return socket.gethostname(), f"{type(error).__name__}: {error}"

    ours = names_in(uri)
    blind = {
        host: "nothing" if not found else found if isinstance(found, str) else ", ".join(found)
        for host, found in _ask_all(lake.spark, look)
        if found != ours
    }
    if blind:
        return CheckResult(
            "lake on executors",
            "wrong",
            f"the driver finds {', '.join(ours)} in {uri}, but "
            + "; ".join(f"{host}: {found}" for host, found in sorted(blind.items())),
            "put the lake on storage that driver and executors share, under one name, and give "
            "executors the same rights and libraries (for instance `s3fs`).",
        )
    return CheckResult("lake on executors", "ok", "they find what the driver finds")


def _ask_all(spark: SparkSession, question: Callable[[], Answer]) -> list[Answer]:
    """Answers from every slot of every executor."""
    slots = _settled_slots(spark)
    if slots == 0:
        raise FraudScoringError(
            f"No executor has come within {REGISTRATION_WAIT_S:g} s.",
            expected=f"executors from {spark.sparkContext.master}.",
            remedy="see the cluster's own page: are workers alive, have they the memory and cores "
            "that spark.executor.memory and spark.executor.cores ask for, and can they reach the "
            "driver under spark.driver.host?",
        )
    places = spark.sparkContext.parallelize(range(slots), slots)

    def answer(_: object) -> list[Answer]:
        return [question()]

    if spark.sparkContext.getConf().get("spark.dynamicAllocation.enabled", "false") == "true":
        # Spark refuses barriers then, so a busy executor may go unasked.
        return places.mapPartitions(answer).collect()
    return places.barrier().mapPartitions(answer).collect()


def _settled_slots(spark: SparkSession) -> int:
    """Tasks that can run at once, when no more executors come."""
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
