"""A command that is hit: the real command line, in a process of its own, with one trap set.

Victim and test find each other by files in a folder, their meeting. The product knows nothing of
this: functions are wrapped from outside, then `jobs.cli.main.main` runs. A trap "within" a write puts a
step into the rows that are written: its tasks say that they have begun, and go on only when the
file `go` is there. So the write is hit while it runs, every time.
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
# Nothing is measured by this: it ends what would otherwise never end.
GIVE_UP_S = 900
ROOM_BYTES = 1024
ALL_SAID = ".all"


@dataclass(frozen=True)
class Trap:
    """Where a command is hit, and how."""

    # One of `CALLS`, and the table, staged rows or file that the call is about.
    call: str
    name: str = ""
    # before | within | after
    when: str = "before"
    nth: int = 1
    # kill | stop | orphan | meet | fill | grow | kill_rank
    act: str = "kill"

    def __str__(self) -> str:
        which = f" number {self.nth}" if self.nth > 1 else ""
        return f"{self.act} {self.when} {self.call} {self.name}{which}".replace("  ", " ")


@dataclass(frozen=True)
class Call:
    """A function of the product: where it lives, and which of its arguments say what."""

    module: str
    owner: str
    function: str
    named: Callable[[tuple[Any, ...]], str] = lambda _: ""
    frame: int | None = None


CALLS = {
    "claim": Call("jobs.lake.leases", "Lease", "acquire"),
    "record": Call("jobs.lake.nights", "Night", "save"),
    "close": Call("jobs.lake.nights", "Night", "close"),
    "stage": Call("jobs.lake.delta_io", "Lake", "stage", lambda given: str(given[3]), 1),
    "publish": Call("jobs.lake.delta_io", "Lake", "publish", lambda given: str(given[1].name), 2),
    "append": Call("jobs.lake.delta_io", "Lake", "append", lambda given: str(given[1].name), 2),
    "discard": Call("jobs.lake.delta_io", "Lake", "discard_staged"),
    "judge": Call("jobs.ingest", "", "_stage_transactions"),
    "drift": Call("jobs.monitor", "", "drift"),
    "file": Call("jobs.report", "", "write_bytes", lambda given: str(given[0]).rpartition("/")[2]),
    "ranks": Call("jobs.train", "", "train_distributed"),
}


def wait_for(place: Path) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + GIVE_UP_S
    while not place.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"{place} did not come")
        time.sleep(POLL_S)


def held_up(frame: Any, meeting: Path) -> Any:
    """The same rows, handed on only when `go` is there; `begun` says that a task has them."""
    begun, go = meeting / "begun", meeting / "go"

    def wait(batches: Iterator[Any]) -> Iterator[Any]:
        import time

        begun.touch()
        end = time.monotonic() + 900
        while not go.exists() and time.monotonic() < end:
            time.sleep(0.05)
        yield from batches

    return frame.mapInArrow(wait, frame.schema)


class Trapped:
    """The wrapped function: counts its calls and acts at the one that is meant."""

    def __init__(self, trap: Trap, meeting: Path, original: Callable[..., Any]) -> None:
        self.trap, self.meeting, self.original = trap, meeting, original
        self.num_calls = 0

    def __call__(self, *given: Any, **named: Any) -> Any:
        call = CALLS[self.trap.call]
        if self.trap.name not in ("", call.named(given)):
            return self.original(*given, **named)
        self.num_calls += 1
        if self.num_calls != self.trap.nth:
            return self.original(*given, **named)
        if self.trap.when == "before":
            self.act(given)
        elif self.trap.when == "within":
            given = self._held_up(given, call)
            Thread(target=self._act_once_begun, daemon=True).start()
        result = self.original(*given, **named)
        if self.trap.when == "after":
            self.act(given)
        return result

    def _held_up(self, given: tuple[Any, ...], call: Call) -> tuple[Any, ...]:
        if call.frame is None:
            # `drift` takes its rows inside what is to be compared.
            return (replace(given[0], frame=held_up(given[0].frame, self.meeting)), *given[1:])
        at = call.frame
        return (*given[:at], held_up(given[at], self.meeting), *given[at + 1 :])

    def _act_once_begun(self) -> None:
        wait_for(self.meeting / "begun")
        self.act(())

    def act(self, given: tuple[Any, ...]) -> None:
        """Do what the trap says."""
        (self.meeting / "hit").write_text(str(os.getpid()))
        {
            "kill": lambda: os.killpg(os.getpgrp(), signal.SIGKILL),
            "stop": lambda: os.killpg(os.getpgrp(), signal.SIGSTOP),
            "orphan": self._orphan_spark,
            "meet": self._meet,
            "fill": fill_disk,
            "grow": self._grow,
            "kill_rank": lambda: Thread(target=kill_rank, args=given[1:2], daemon=True).start(),
        }[self.trap.act]()

    def _orphan_spark(self) -> None:
        """Spark is paused and its driver killed: it wakes without anybody to work for."""
        from pyspark import SparkContext

        os.kill(SparkContext._gateway.proc.pid, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGKILL)

    def _meet(self) -> None:
        (self.meeting / f"arrived-{os.getpid()}").touch()
        wait_for(self.meeting / "go")

    def _grow(self) -> None:
        """Put files where the meeting says; they are read when this has returned."""
        for source, target in json.loads((self.meeting / "growth").read_text()).items():
            shutil.copyfile(source, target)


def fill_disk() -> None:
    """From now on no file of this command can grow beyond a little, as on a full disk."""
    import resource

    from pyspark import SparkContext

    for pid in (os.getpid(), SparkContext._gateway.proc.pid):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (ROOM_BYTES, ROOM_BYTES))


def kill_rank(training: Any) -> None:
    """Kill the second rank once an epoch is kept."""
    folder = Path(training.run_dir)
    while not list(folder.glob("epoch-*.json")):
        time.sleep(POLL_S)
    log = (folder / "rank-1.log").read_text()
    os.kill(int(log.rpartition(" pid ")[2].split()[0]), signal.SIGKILL)


def set_trap(trap: Trap, meeting: Path) -> None:
    """Wrap the function that the trap names."""
    import importlib

    call = CALLS[trap.call]
    owner: Any = importlib.import_module(call.module)
    if call.owner:
        owner = getattr(owner, call.owner)
    trapped = Trapped(trap, meeting, getattr(owner, call.function))
    setattr(owner, call.function, lambda *given, **named: trapped(*given, **named))


def train_little() -> None:
    """A recipe that is trained in seconds; the commands stay the same."""
    from fraud_models import recipes

    usual = recipes.lstm_autoencoder()
    optimisation = replace(usual.optimisation, epochs=4, batch_size=16)
    small = replace(usual, train_days=21, optimisation=optimisation)
    recipes.RECIPES["lstm_autoencoder"] = lambda: small


def as_command(
    trap: Trap, meeting: Path, output: Path, arguments: list[str], env: dict[str, str]
) -> None:
    """Be the command line with these arguments, as the leader of a process group of its own."""
    os.setsid()
    os.environ.update(env)
    _write_through_a_pipe(output)
    sys.argv = ["fraud-scoring", *arguments]
    try:
        if arguments[0] == "train":
            train_little()
        if trap.call:
            set_trap(trap, meeting)
        from jobs.cli.main import main as command_line

        command_line()
    finally:
        # A forked process leaves without what others do at their end.
        atexit._run_exitfuncs()


def _write_through_a_pipe(output: Path) -> None:
    """What is said goes to a file through another process: one that can write no file can say so.

    A second file tells that everybody who could say something is gone.
    """
    collect = 'cat > "$0" && touch "$1"'
    collector = subprocess.Popen(
        ["sh", "-c", collect, str(output), str(output.with_suffix(ALL_SAID))],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert collector.stdin is not None
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(collector.stdin.fileno(), stream.fileno())
    collector.stdin.close()
