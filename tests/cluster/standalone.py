"""Start and stop Spark's standalone master and one-core workers on loopback.

A cluster writes to one folder only, and each of its processes has that folder in its environment.
The processes are found by it at the end, because Spark's Python daemons and training ranks leave
the process group that they were started in.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyspark

from jobs.runtime.java import find_java
from tests.processes import CommandResult, is_running, kill_group

SPARK_HOME = Path(pyspark.__file__).parent
LOOPBACK = "127.0.0.1"
WORKER_MEMORY = "1500m"
# A module of the bank that only the driver has.
OWN_DEFINITIONS = Path(__file__).with_name("bank_definitions.py")
START_TIMEOUT_S = 300.0
MASTER_STARTED = re.compile(r"Starting Spark master at (spark://\S+)")
WORKER_REGISTERED = re.compile(r"Successfully registered with master")
# Variables of this process that must not reach the cluster or a command.
PRIVATE = ("FRAUD_", "PYSPARK_", "SPARK_", "PYTHON", "VIRTUAL_ENV", "COVERAGE")


@dataclass
class StandaloneCluster:
    """A master and its workers, which write to the folder `home` only."""

    home: Path
    num_workers: int = 2
    master: str = ""
    _daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def work_folder(self) -> Path:
        """Return the folder where executors run, which also identifies the cluster's processes."""
        return self.home / "work"

    def start(self) -> None:
        """Start the master, then the workers, and wait until these are registered."""
        for name in ("work", "scratch", "tmp", "logs"):
            (self.home / name).mkdir(parents=True)
        log = self._launch("master", "org.apache.spark.deploy.master.Master", "--port", "0")
        self.master = self._wait_for(MASTER_STARTED, [log])[0]
        logs = [self._launch_worker(number) for number in range(self.num_workers)]
        self._wait_for(WORKER_REGISTERED, logs)

    def stop(self) -> None:
        """Kill every process of the cluster, executors and their Python processes included."""
        for daemon in self._daemons:
            daemon.kill()
        for daemon in self._daemons:
            daemon.wait()
        # A process may have started another one before it was killed.
        while left := self.processes():
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=10)

    def processes(self) -> list[psutil.Process]:
        """Return all running processes that belong to this cluster."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            folder = process.environ().get("SPARK_WORKER_DIR")
            return folder == str(self.work_folder) and is_running(process.pid)
        except psutil.Error:
            return False

    def _launch_worker(self, number: int) -> Path:
        size = ("--cores", "1", "--memory", WORKER_MEMORY)
        worker = "org.apache.spark.deploy.worker.Worker"
        return self._launch(f"worker-{number}", worker, *size, self.master)

    def _launch(self, name: str, program: str, *arguments: str) -> Path:
        log = self.home / "logs" / f"{name}.log"
        command = [str(SPARK_HOME / "bin" / "spark-class"), program, "--host", LOOPBACK]
        with log.open("wb") as file:
            daemon = subprocess.Popen(
                [*command, "--webui-port", "0", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.home,
                start_new_session=True,
            )
        self._daemons.append(daemon)
        return log

    def _environment(self) -> dict[str, str]:
        return {
            **public_environment(),
            "JAVA_HOME": str(find_java()),
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_LOCAL_IP": LOOPBACK,
            "SPARK_WORKER_DIR": str(self.work_folder),
            "SPARK_LOCAL_DIRS": str(self.home / "scratch"),
            "SPARK_DAEMON_MEMORY": "256m",
            "TMPDIR": str(self.home / "tmp"),
            # Another time zone than that of the data: results must not depend on it.
            "TZ": "Asia/Tokyo",
        }

    def _wait_for(self, pattern: re.Pattern[str], logs: list[Path]) -> list[str]:
        """Wait until a pattern is in all logs; return its last group from each of them."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            matches = [pattern.search(log.read_text(errors="replace")) for log in logs]
            groups = [match.group(match.lastindex or 0) for match in matches if match]
            if len(groups) == len(logs):
                return groups
            ended = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                texts = "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)
                raise RuntimeError(f"The cluster did not start ({ended or 'too slow'}):\n{texts}")
            time.sleep(0.2)


@contextmanager
def running_cluster(home: Path) -> Iterator[StandaloneCluster]:
    """Start a cluster, and stop it when the block ends."""
    cluster = StandaloneCluster(home)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def public_environment() -> dict[str, str]:
    """Return this process's environment without its private variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}


@dataclass(frozen=True)
class Driver:
    """Run commands of the checkout on a Spark master, each as a process of its own."""

    folder: Path
    """Working folder of the commands, outside the checkout."""
    master: str
    spark: dict[str, str]

    def environment(self, **settings: str) -> dict[str, str]:
        """Return the environment of a command; keyword arguments are added to it."""
        return {
            **public_environment(),
            "FRAUD_MASTER": self.master,
            "FRAUD_SPARK": json.dumps(self.spark),
            "FRAUD_DRIVER_MEMORY": "1500m",
            "FRAUD_ALERT_BUDGET": "5",
            "FRAUD_LOG_FORMAT": "text",
            "FRAUD_DEFINITIONS": str(OWN_DEFINITIONS),
            "FRAUD_RECIPES": str(OWN_DEFINITIONS),
            # Wide enough that tables do not wrap paths.
            "COLUMNS": "1000",
            **settings,
        }

    def start(self, *command: str, **settings: str) -> RunningCommand:
        """Start `fraud-scoring` with these arguments."""
        return self.start_script(
            Path(sys.executable).with_name("fraud-scoring"), *command, **settings
        )

    def start_script(self, script: Path, *arguments: str, **settings: str) -> RunningCommand:
        """Start a Python script with these arguments."""
        self.folder.mkdir(parents=True, exist_ok=True)
        number = len(list(self.folder.glob("*.log")))
        log = self.folder / f"{number:02d}-{script.stem}-{Path(arguments[0]).name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(script), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment(**settings),
                cwd=self.folder,
                start_new_session=True,
            )
        return RunningCommand(process, log)

    def run(self, *command: str, **settings: str) -> CommandResult:
        """Run a command to its end; return its exit code and output."""
        return self.start(*command, **settings).wait()


@dataclass(frozen=True)
class RunningCommand:
    """A running command, leader of a process group of its own."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait(self, timeout_s: float = 1800.0) -> CommandResult:
        """Wait for the command, kill what is left of its group, and return the result."""
        try:
            code = self.process.wait(timeout_s)
        finally:
            self.kill()
        return CommandResult(code, self.log.read_text(errors="replace"))

    def kill(self) -> None:
        """Kill what is left of the command and its Java process."""
        kill_group(self.process.pid)
        self.process.wait()
