"""The real command line in processes of its own, undisturbed or with a trap set."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import victim
from victim import GIVE_UP_S, POLL_S, Trap, wait_for

BUDGET = 5
# Commands are forked from a process that has read these: each would spend seconds on it.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["jobs.nightly", "jobs.backfill", "jobs.train"])
JAVA_OPTIONS = "spark.driver.extraJavaOptions"
SPARK = {
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    # For few rows compiling each plan to Java costs a fifth of the time. Commands that other
    # tests start, the cluster and the demo have Spark's default.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    # Nothing here runs for long enough to be worth Java's better compiler. Without it Java makes
    # room for a fifth of the code, and compiles again and again what it has thrown out.
    JAVA_OPTIONS: "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC",
}
_numbers = itertools.count()
# Options of Java that commands get beside those of `SPARK`.
_more_java: list[str] = []


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    words: str

    def __str__(self) -> str:
        return f"killed ({-self.code})" if self.code < 0 else f"exit {self.code}"


@dataclass(frozen=True)
class Started:
    """A command that runs, as the leader of a process group of its own."""

    process: ForkServerProcess
    meeting: Path
    output: Path

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        assert self.process.pid is not None
        return self.process.pid

    def until_ended(self) -> int:
        """Wait for the process itself; its exit code, or minus the signal that killed it."""
        self.process.join(GIVE_UP_S)
        if self.process.exitcode is None:
            raise TimeoutError(f"it has not ended:\n{self.words()[-3000:]}")
        return self.process.exitcode

    def words(self) -> str:
        """What it has said so far."""
        return self.output.read_text(errors="replace")

    def end(self) -> Ended:
        """Wait for the command and everything it started."""
        try:
            code = self.until_ended()
        finally:
            self.kill()
        wait_for(self.output.with_suffix(victim.ALL_SAID))
        return Ended(code, self.words())

    def kill(self) -> None:
        """End what is left of its process group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        # Whoever was killed may hold files until it is gone.
        while _group_lives(self.pid):
            time.sleep(POLL_S)

    def until_stopped(self) -> None:
        """Wait until the process stands still, or has ended before it could."""
        self._until(lambda: _state(self.pid) == "T")

    def until_arrived(self) -> None:
        """Wait until it stands before the barrier."""
        self._until((self.meeting / f"arrived-{self.pid}").exists)

    def _until(self, there: Callable[[], bool]) -> None:
        while not there():
            if self.process.exitcode is not None:
                raise AssertionError(f"it ended instead:\n{self.words()[-3000:]}")
            time.sleep(POLL_S)

    def until_gone(self) -> None:
        """Wait until nothing of its process group is left."""
        end = time.monotonic() + GIVE_UP_S
        while _group_lives(self.pid) and time.monotonic() < end:
            time.sleep(POLL_S)

    def wake(self) -> None:
        """Let held-up rows pass, and all its processes go on."""
        (self.meeting / "go").touch()
        os.killpg(self.pid, signal.SIGCONT)


def _state(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def _group_lives(group: int) -> bool:
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in ("Z", "X"):
            return True
    return False


def archive_classes(loaded: Path, archive: Path) -> None:
    """Keep the classes that Spark has loaded in this process as Java has them in memory.

    Reading and checking them anew is a sixth of a short command's time.
    """
    from pyspark import SparkContext

    gateway = SparkContext._gateway
    assert gateway is not None
    java, *arguments = Path(f"/proc/{gateway.proc.pid}/cmdline").read_text().split("\0")
    class_path = arguments[arguments.index("-cp") + 1]
    names = archive.with_suffix(".names")
    # Java still writes to the list: its last line may be half of one.
    names.write_text(loaded.read_text().rpartition("\n")[0] + "\n")
    told = (f"-XX:SharedClassListFile={names}", f"-XX:SharedArchiveFile={archive}")
    command = [java, "-Xshare:dump", *told, "-XX:+UseSerialGC", "-cp", class_path]
    subprocess.run(command, check=True, capture_output=True)


def use_archive(archive: Path) -> None:
    """Let all commands from now on take their classes from an archive."""
    _more_java.append(f"-XX:SharedArchiveFile={archive}")


def environment(**more: str) -> dict[str, str]:
    """What the commands of these tests are told beside their arguments."""
    java = " ".join([SPARK[JAVA_OPTIONS], *_more_java])
    return {
        **os.environ,
        "FRAUD_ALERT_BUDGET": str(BUDGET),
        "FRAUD_SPARK": json.dumps({**SPARK, JAVA_OPTIONS: java}),
        "FRAUD_DRIVER_MEMORY": "1g",
        "FRAUD_LOG_FORMAT": "text",
        **more,
    }


def start(lake: Path, *arguments: object, trap: Trap | None = None, **more: Any) -> Started:
    """Start a command on a lake; `meeting` (a folder) and `env` (more of it) may be given."""
    meeting = more.pop("meeting", None) or Path(
        tempfile.mkdtemp(prefix="meeting-", dir=lake.parent)
    )
    output = meeting / f"output-{next(_numbers)}"
    said = [str(argument) for argument in arguments]
    said[1:1] = ["--lake", str(lake)]
    env = environment(**more.pop("env", {}))
    process = FORKS.Process(
        target=victim.as_command, args=(trap or Trap(""), meeting, output, said, env)
    )
    process.start()
    wait_for(output)
    return Started(process, meeting, output)


def run(lake: Path, *arguments: object, trap: Trap | None = None, **more: Any) -> Ended:
    """Run a command to its end, whichever that is."""
    return start(lake, *arguments, trap=trap, **more).end()
