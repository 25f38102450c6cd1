"""Run the real command line in processes of its own, with or without an injected fault."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import target_process
from target_process import TIMEOUT_S, FaultPoint, wait_for

from tests.processes import (
    POLL_S,
    STOPPED,
    CommandResult,
    is_group_running,
    kill_group,
    state_of,
)
from tests.quick_spark import JAVA_OPTIONS, SPARK

ALERT_BUDGET = 5
# Commands are forked from a process that has imported these: importing takes seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["jobs.nightly", "jobs.backfill", "jobs.train"])
_numbers = itertools.count()
# Java options of commands beside those of `SPARK`.
_extra_java_options: list[str] = []


@dataclass(frozen=True)
class RunningCommand:
    """A running command, leader of a process group of its own."""

    process: ForkServerProcess
    signals: Path
    output_file: Path

    @property
    def pid(self) -> int:
        """Return the id of the process, which is also that of its group."""
        assert self.process.pid is not None
        return self.process.pid

    def wait_for_exit(self) -> int:
        """Wait for the process itself; return its exit code, or minus the signal's number."""
        self.process.join(TIMEOUT_S)
        if self.process.exitcode is None:
            raise TimeoutError(f"the command is still running:\n{self.output()[-3000:]}")
        return self.process.exitcode

    def output(self) -> str:
        """Return the output so far."""
        return self.output_file.read_text(errors="replace")

    def wait(self) -> CommandResult:
        """Wait for the command, kill what is left of its group, and return the result."""
        try:
            code = self.wait_for_exit()
        finally:
            self.kill()
        wait_for(self.output_file.with_suffix(target_process.OUTPUT_COMPLETE))
        return CommandResult(code, self.output())

    def kill(self) -> None:
        """Kill what is left of its process group."""
        kill_group(self.pid)

    def wait_until_stopped(self) -> None:
        """Wait until the process is stopped; fail when it ends before."""
        self._wait_until(lambda: state_of(self.pid) == STOPPED)

    def wait_until_at_barrier(self) -> None:
        """Wait until the process has arrived at the barrier; fail when it ends before."""
        self._wait_until((self.signals / f"arrived-{self.pid}").exists)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self.process.exitcode is not None:
                raise AssertionError(f"the command has ended:\n{self.output()[-3000:]}")
            time.sleep(POLL_S)

    def wait_until_group_ended(self) -> None:
        """Wait until no process of its group is running."""
        end = time.monotonic() + TIMEOUT_S
        while is_group_running(self.pid) and time.monotonic() < end:
            time.sleep(POLL_S)

    def resume(self) -> None:
        """Release the rows that are held back, and continue all processes of the group."""
        (self.signals / "go").touch()
        os.killpg(self.pid, signal.SIGCONT)


def archive_classes(loaded: Path, archive: Path) -> None:
    """Write a Java class-data archive of the classes that this process has loaded for Spark.

    Loading and verifying them anew takes a sixth of a short command's time.
    """
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    assert gateway is not None
    java, *arguments = Path(f"/proc/{gateway.proc.pid}/cmdline").read_text().split("\0")
    class_path = arguments[arguments.index("-cp") + 1]
    names = archive.with_suffix(".names")
    # Java is still writing the list: its last line may be incomplete.
    names.write_text(loaded.read_text().rpartition("\n")[0] + "\n")
    options = (f"-XX:SharedClassListFile={names}", f"-XX:SharedArchiveFile={archive}")
    command = [java, "-Xshare:dump", *options, "-XX:+UseSerialGC", "-cp", class_path]
    subprocess.run(command, check=True, capture_output=True)


def use_archive(archive: Path) -> None:
    """Let all later commands load their classes from an archive."""
    _extra_java_options.append(f"-XX:SharedArchiveFile={archive}")


def environment(**more: str) -> dict[str, str]:
    """Return the environment of the commands of these tests."""
    java = " ".join([SPARK[JAVA_OPTIONS], *_extra_java_options])
    return {
        **os.environ,
        "FRAUD_ALERT_BUDGET": str(ALERT_BUDGET),
        "FRAUD_SPARK": json.dumps({**SPARK, JAVA_OPTIONS: java}),
        "FRAUD_DRIVER_MEMORY": "1g",
        "FRAUD_LOG_FORMAT": "text",
        **more,
    }


def start(
    lake: Path, *arguments: object, fault: FaultPoint | None = None, **more: Any
) -> RunningCommand:
    """Start a command on a lake; options: `signals` (a folder), `env` (further variables)."""
    signals = more.pop("signals", None) or Path(
        tempfile.mkdtemp(prefix="signals-", dir=lake.parent)
    )
    output = signals / f"output-{next(_numbers)}"
    command, *rest = map(str, arguments)
    env = environment(**more.pop("env", {}))
    process = FORKS.Process(
        target=target_process.run_command,
        args=(fault, signals, output, [command, "--lake", str(lake), *rest], env),
    )
    process.start()
    wait_for(output)
    return RunningCommand(process, signals, output)


def run(
    lake: Path, *arguments: object, fault: FaultPoint | None = None, **more: Any
) -> CommandResult:
    """Run a command to its end; options as those of `start`."""
    return start(lake, *arguments, fault=fault, **more).wait()


@contextmanager
def paused(lake: Path, *arguments: object, fault: FaultPoint) -> Iterator[RunningCommand]:
    """Run a command up to a fault point that stops it; kill it when the block ends."""
    command = start(lake, *arguments, fault=fault)
    try:
        command.wait_until_stopped()
        yield command
    finally:
        command.kill()
