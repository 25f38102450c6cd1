"""Checks of this machine: Java, jars, packages, memory, GPUs, free disk space."""

from __future__ import annotations

import shutil
from pathlib import Path

from jobs.health.check_result import CheckResult
from jobs.health.executor_checks import installed_packages
from jobs.runtime.java import delta_jars, find_java, java_version
from jobs.runtime.settings import Settings

GIB = 2**30
# Free space below which the disk check warns, and below which it fails.
WARN_BELOW_BYTES, FAIL_BELOW_BYTES = 20 * GIB, 2 * GIB

SETUP = "run `make setup`, or install Java 17 and set JAVA_HOME."


def check_java() -> CheckResult:
    """Check that a Java that Spark can use is found and runs."""
    home = find_java()
    if home is None:
        return CheckResult("Java", "wrong", "Java 17 or 21 was not found", SETUP)
    version = java_version(home / "bin" / "java")
    if version is None:
        return CheckResult("Java", "wrong", f"the Java in {home} does not start", SETUP)
    return CheckResult("Java", "ok", f"Java {version} in {home}")


def check_jars() -> CheckResult:
    """Check that Delta's jars are installed."""
    jars = delta_jars()
    return CheckResult("Delta's jars", "ok", f"{len(jars)} in {jars[0].parent}")


def check_packages() -> CheckResult:
    """Check that the three packages come from one installation."""
    home, version, misplaced = installed_packages()
    if misplaced:
        return CheckResult(
            "packages",
            "wrong",
            f"jobs {version} is installed in {home}, but {', '.join(misplaced)}",
            "install fraud-scoring into an environment of its own; other packages use these names.",
        )
    return CheckResult("packages", "ok", f"fraud-scoring {version} in {home}")


def check_memory(settings: Settings) -> CheckResult:
    """Check that the free memory suffices for the driver."""
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


def check_gpus() -> CheckResult:
    """Report the GPUs that torch sees; having none is fine."""
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        return CheckResult("GPUs", "ok", "none; training runs on the CPU")
    names = ", ".join(torch.cuda.get_device_name(index) for index in range(count))
    return CheckResult("GPUs", "ok", f"{count}: {names}")


def check_disk_space(name: str, folder: Path) -> CheckResult:
    """Check the free space on the disk of a folder."""
    free = shutil.disk_usage(folder).free
    found = f"{folder}, {free / GIB:.0f} GiB free"
    if free >= WARN_BELOW_BYTES:
        return CheckResult(name, "ok", found)
    remedy = "free disk space: a job fails when the disk is full."
    return CheckResult(name, "wrong" if free < FAIL_BELOW_BYTES else "warning", found, remedy)


def _parse_bytes(text: str) -> int:
    """Return the number of bytes of a size in Spark's notation.

    >>> _parse_bytes("4g") == 4 * GIB, _parse_bytes("512m") == GIB // 2
    (True, True)
    """
    units = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
    number = text.strip().lower().removesuffix("b")
    factor = units.get(number[-1:], 1)
    return int(number.rstrip("kmgt")) * factor
