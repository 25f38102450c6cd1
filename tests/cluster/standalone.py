"""Spark's own standalone master and one-core workers on loopback, started and ended by a test.

Everything a cluster writes lies in one folder, and every process that belongs to it carries that
folder in its environment. That is how they are found at the end: the daemons that Spark forks for
Python, and the ranks of a training, leave the process group they were started in.
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

SPARK_HOME = Path(pyspark.__file__).parent
LOOPBACK = "127.0.0.1"
WORKER_MEMORY = "1500m"
START_TIMEOUT_S = 300.0
MASTER_IS_UP = re.compile(r"Starting Spark master at (spark://\S+)")
WORKER_IS_UP = re.compile(r"Successfully registered with master")
# Names that would carry the driver's ways into a worker, or the other way round.
PRIVATE = ("FRAUD_", "PYSPARK_", "SPARK_", "PYTHON", "VIRTUAL_ENV", "COVERAGE")


@dataclass
class StandaloneCluster:
    """A master and its workers; `home` holds all that they write."""

    home: Path
    num_workers: int = 2
    master: str = ""
    _daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def work_folder(self) -> Path:
        """Where executors run; also the mark by which the cluster's processes are known."""
        return self.home / "work"

    def start(self) -> None:
        """Start the master, then the workers, and wait until they know each other."""
        for name in ("work", "scratch", "tmp", "logs"):
            (self.home / name).mkdir(parents=True)
        log = self._launch("master", "org.apache.spark.deploy.master.Master", "--port", "0")
        self.master = self._wait_for(MASTER_IS_UP, [log])[0]
        logs = [self._launch_worker(number) for number in range(self.num_workers)]
        self._wait_for(WORKER_IS_UP, logs)

    def stop(self) -> None:
        """End every process of the cluster, executors and their Python processes too."""
        for daemon in self._daemons:
            daemon.kill()
        for daemon in self._daemons:
            daemon.wait()
        # A dying process may have started another.
        while left := self.processes():
            for process in left:
                process.kill()
            psutil.wait_procs(left, timeout=10)

    def processes(self) -> list[psutil.Process]:
        """All living processes that belong to this cluster."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and process.environ().get("SPARK_WORKER_DIR") == str(self.work_folder)
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
            # A cluster's clocks need not be set to the zone that the data are in.
            "TZ": "Asia/Tokyo",
        }

    def _wait_for(self, words: re.Pattern[str], logs: list[Path]) -> list[str]:
        """What the last group of the words says in each log, once all logs have them."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            found = [words.search(log.read_text(errors="replace")) for log in logs]
            said = [match.group(match.lastindex or 0) for match in found if match]
            if len(said) == len(logs):
                return said
            ended = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            if ended or time.monotonic() > deadline:
                texts = "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)
                raise RuntimeError(f"The cluster did not start ({ended or 'too slow'}):\n{texts}")
            time.sleep(0.2)


@contextmanager
def running_cluster(home: Path) -> Iterator[StandaloneCluster]:
    """A cluster that is there inside and gone outside, whatever happens."""
    cluster = StandaloneCluster(home)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def public_environment() -> dict[str, str]:
    """This process's environment without what belongs to it alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PRIVATE)}


@dataclass(frozen=True)
class Driver:
    """Runs commands of the checkout on a Spark master, each as a process of its own."""

    place: Path
    """Folder that commands run in, away from the checkout."""
    master: str
    spark: dict[str, str]

    def environment(self, **settings: str) -> dict[str, str]:
        """Settings as a user would give them; keyword arguments add to them."""
        return {
            **public_environment(),
            "FRAUD_MASTER": self.master,
            "FRAUD_SPARK": json.dumps(self.spark),
            "FRAUD_DRIVER_MEMORY": "1500m",
            "FRAUD_ALERT_BUDGET": "5",
            "FRAUD_LOG_FORMAT": "text",
            # Wide, so that no table breaks a path into two lines.
            "COLUMNS": "1000",
            **settings,
        }

    def start(self, *command: str, **settings: str) -> Running:
        """Start a command: `fraud-scoring` with these arguments."""
        return self.start_script(
            Path(sys.executable).with_name("fraud-scoring"), *command, **settings
        )

    def start_script(self, script: Path, *arguments: str, **settings: str) -> Running:
        """Start a Python script with these arguments."""
        self.place.mkdir(parents=True, exist_ok=True)
        number = len(list(self.place.glob("*.log")))
        log = self.place / f"{number:02d}-{script.stem}-{Path(arguments[0]).name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, str(script), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self.environment(**settings),
                cwd=self.place,
                start_new_session=True,
            )
        return Running(process, log)

    def run(self, *command: str, **settings: str) -> Ended:
        """Run a command to its end."""
        return self.start(*command, **settings).wait()


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    output: str

    def checked(self) -> str:
        """Its output, if it ended well."""
        assert self.code == 0, f"exit code {self.code}:\n{self.output[-5000:]}"
        return self.output


@dataclass(frozen=True)
class Running:
    """A command at work."""

    process: subprocess.Popen[bytes]
    log: Path

    def wait(self, timeout_s: float = 1800.0) -> Ended:
        """Wait for its end; afterwards neither it nor its Java is left."""
        try:
            code = self.process.wait(timeout_s)
        finally:
            self.end()
        return Ended(code, self.log.read_text(errors="replace"))

    def end(self) -> None:
        """Kill what is left of it."""
        try:
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            return
        self.process.wait()
