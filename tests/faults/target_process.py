"""Run the real command line in a process of its own, with one fault injected.

The product does not know about this: a function is wrapped from outside, then
`jobs.cli.main.main` runs. Test and process exchange signals as files in a shared folder. A fault
"within" a write adds a step to the rows being written: its tasks signal that they have begun and
continue only once the file `go` exists. So the fault always happens during the write.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

POLL_S = 0.05
# Upper limit of every wait, so that a hanging test ends; it is not a measurement.
TIMEOUT_S = 900
MAX_FILE_BYTES = 1024
OUTPUT_COMPLETE = ".complete"


@dataclass(frozen=True)
class FaultPoint:
    """Where in a command a fault is injected, and which fault."""

    # One of `CALLS`, and the table, staged rows or file of that call.
    call: str
    name: str = ""
    # before | within | after
    when: str = "before"
    nth: int = 1
    # kill | stop | orphan_spark | wait_at_barrier | limit_files | replace_files | kill_rank
    action: str = "kill"

    def __str__(self) -> str:
        which = f" number {self.nth}" if self.nth > 1 else ""
        return f"{self.action} {self.when} {self.call} {self.name}{which}".replace("  ", " ")


@dataclass(frozen=True)
class Call:
    """A function of the product, and which of its arguments hold the name and the rows."""

    module: str
    owner: str
    function: str
    name_of: Callable[[tuple[Any, ...]], str] = lambda _: ""
    frame: int | None = None


CALLS = {
    "acquire": Call("jobs.lake.leases", "Lease", "acquire"),
    "save": Call("jobs.lake.nights", "Night", "save"),
    "stage": Call("jobs.lake.delta_io", "Lake", "stage", lambda args: str(args[3]), 1),
    "publish": Call("jobs.lake.delta_io", "Lake", "publish", lambda args: str(args[1].name), 2),
    "append": Call("jobs.lake.delta_io", "Lake", "append", lambda args: str(args[1].name), 2),
    "discard": Call("jobs.lake.delta_io", "Lake", "discard_staged"),
    "stage_transactions": Call("jobs.ingest", "", "_stage_transactions"),
    "drift": Call("jobs.monitor", "", "drift"),
    "write": Call("jobs.report", "", "write_bytes", lambda args: str(args[0]).rpartition("/")[2]),
    "train": Call("jobs.train", "", "train_distributed"),
}


def wait_for(path: Path) -> None:
    """Wait until a file exists."""
    end = time.monotonic() + TIMEOUT_S
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{path} was not created")
        time.sleep(POLL_S)


def held_back(frame: Any, signals: Path) -> Any:
    """Return the same rows, delayed: tasks create `begun` and wait until `go` exists."""
    begun, go = signals / "begun", signals / "go"

    def wait(batches: Iterator[Any]) -> Iterator[Any]:
        import time

        begun.touch()
        end = time.monotonic() + 900
        while not go.exists() and time.monotonic() < end:
            time.sleep(0.05)
        yield from batches

    return frame.mapInArrow(wait, frame.schema)


class FaultyFunction:
    """The wrapped function: counts its calls and injects the fault at the chosen one."""

    def __init__(self, fault: FaultPoint, signals: Path, original: Callable[..., Any]) -> None:
        self.fault, self.signals, self.original = fault, signals, original
        self.num_calls = 0

    def __call__(self, *args: Any, **named: Any) -> Any:
        call = CALLS[self.fault.call]
        if self.fault.name not in ("", call.name_of(args)):
            return self.original(*args, **named)
        self.num_calls += 1
        if self.num_calls != self.fault.nth:
            return self.original(*args, **named)
        if self.fault.when == "before":
            self.inject(args)
        elif self.fault.when == "within":
            args = self._with_rows_held_back(args, call)
            Thread(target=self._inject_once_begun, daemon=True).start()
        result = self.original(*args, **named)
        if self.fault.when == "after":
            self.inject(args)
        return result

    def _with_rows_held_back(self, args: tuple[Any, ...], call: Call) -> tuple[Any, ...]:
        if call.frame is None:
            # `drift` receives its rows inside its input.
            return (replace(args[0], frame=held_back(args[0].frame, self.signals)), *args[1:])
        at = call.frame
        return (*args[:at], held_back(args[at], self.signals), *args[at + 1 :])

    def _inject_once_begun(self) -> None:
        wait_for(self.signals / "begun")
        self.inject(())

    def inject(self, args: tuple[Any, ...]) -> None:
        """Do what the fault point names."""
        {
            "kill": lambda: os.killpg(os.getpgrp(), signal.SIGKILL),
            "stop": lambda: os.killpg(os.getpgrp(), signal.SIGSTOP),
            "orphan_spark": self._orphan_spark,
            "wait_at_barrier": self._wait_at_barrier,
            "limit_files": limit_file_size,
            "replace_files": self._replace_files,
            "kill_rank": lambda: Thread(target=kill_rank, args=args[1:2], daemon=True).start(),
        }[self.fault.action]()

    def _orphan_spark(self) -> None:
        """Pause Spark's JVM and kill its driver: the JVM is resumed without a driver."""
        from pyspark import SparkContext

        os.kill(SparkContext._gateway.proc.pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGKILL)

    def _wait_at_barrier(self) -> None:
        (self.signals / f"arrived-{os.getpid()}").touch()
        wait_for(self.signals / "go")

    def _replace_files(self) -> None:
        """Copy files as the file `replacements` lists them: source to target."""
        for source, target in json.loads((self.signals / "replacements").read_text()).items():
            shutil.copyfile(source, target)


def limit_file_size() -> None:
    """Limit the size of files that this command writes from now on, as a full disk would."""
    import resource

    from pyspark import SparkContext

    for pid in (os.getpid(), SparkContext._gateway.proc.pid):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))


def kill_rank(training: Any) -> None:
    """Kill the second training rank once an epoch has been saved."""
    folder = Path(training.run_dir)
    while not list(folder.glob("epoch-*.json")):
        time.sleep(POLL_S)
    log = (folder / "rank-1.log").read_text()
    os.kill(int(log.rpartition(" pid ")[2].split()[0]), signal.SIGKILL)


def install(fault: FaultPoint, signals: Path) -> None:
    """Wrap the function that a fault point names."""
    import importlib

    call = CALLS[fault.call]
    owner: Any = importlib.import_module(call.module)
    if call.owner:
        owner = getattr(owner, call.owner)
    wrapped = FaultyFunction(fault, signals, getattr(owner, call.function))
    setattr(owner, call.function, lambda *args, **named: wrapped(*args, **named))


def shorten_training() -> None:
    """Replace a recipe by one that trains in seconds, so that commands stay the same."""
    from fraud_models import recipes

    usual = recipes.lstm_autoencoder()
    optimisation = replace(usual.optimisation, epochs=4, batch_size=16)
    small = replace(usual, train_days=21, optimisation=optimisation)
    recipes.RECIPES["lstm_autoencoder"] = lambda: small


def run_command(
    fault: FaultPoint | None,
    signals: Path,
    output: Path,
    arguments: list[str],
    env: dict[str, str],
) -> None:
    """Run the command line with these arguments, as the leader of a process group of its own."""
    os.setsid()
    os.environ.update(env)
    _write_output_through_a_pipe(output)
    sys.argv = ["fraud-scoring", *arguments]
    try:
        if arguments[0] == "train":
            shorten_training()
        if fault is not None:
            install(fault, signals)
        from jobs.cli.main import main as command_line

        command_line()
    finally:
        # A forked process does not run exit functions by itself.
        atexit._run_exitfuncs()


def _write_output_through_a_pipe(output: Path) -> None:
    """Send output to a file through another process, so that a full disk can still be reported.

    That process creates a second file once all writers of the pipe have ended.
    """
    collect = 'cat > "$0" && touch "$1"'
    collector = subprocess.Popen(
        ["sh", "-c", collect, str(output), str(output.with_suffix(OUTPUT_COMPLETE))],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert collector.stdin is not None
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(collector.stdin.fileno(), stream.fileno())
    collector.stdin.close()
