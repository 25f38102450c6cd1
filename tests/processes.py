"""States of operating-system processes, and results of commands, for tests that start commands.

Process groups are read from `/proc`: a poll every few milliseconds must stay cheap.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.05
STOPPED = "T"
# Zombie and dead: such a process runs no more and only waits for its parent (man proc_pid_stat).
ENDED = ("Z", "X")


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a command that has ended."""

    code: int
    """Negative: the number of the signal that killed it."""
    output: str

    def __str__(self) -> str:
        return f"killed ({-self.code})" if self.code < 0 else f"exit {self.code}"

    def checked(self) -> str:
        """Return the output; fail when the exit code is not 0."""
        assert self.code == 0, f"{self}:\n{self.output[-5000:]}"
        return self.output


def state_of(pid: int) -> str:
    """Return the state letter of a process, or an empty text when there is no such process."""
    try:
        return _fields(Path(f"/proc/{pid}/stat"))[0]
    except OSError:
        return ""


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    return state_of(pid) not in ("", *ENDED)


def is_group_running(group: int) -> bool:
    """Return whether any process of a process group is running."""
    return any(number == group and state not in ENDED for state, number in _states_and_groups())


def kill_group(group: int) -> None:
    """Kill a process group and wait until it is gone: a dying process still holds its files."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
    while is_group_running(group):
        time.sleep(POLL_S)


def _states_and_groups() -> Iterator[tuple[str, int]]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = _fields(stat)[:3]
        except OSError:
            continue
        yield state, int(group)


def _fields(stat: Path) -> list[str]:
    # The command name stands in brackets before these fields and may contain anything.
    return stat.read_text(errors="replace").rpartition(")")[2].split()
