"""Who holds a night: a name that says which process it is, so that a dead one is known as dead.

A lease ends by itself, but only after a time that suits long jobs. A run that was killed on this
machine need not be waited for: its process is looked up. Whoever is wrongly taken for dead still
cannot publish, for every write is fenced (`jobs/lake/nights.py`).
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from jobs.lake.runs import new_run_id

_HOLDER = re.compile(
    r"^(?P<id>[^@]+)@(?P<host>[^:]+):(?P<pid>\d+):(?P<space>[^:]*):(?P<start>\d+)$"
)
_PROC = Path("/proc")
# Fields of /proc/<pid>/stat behind the command's name (man proc_pid_stat): state, start time.
_STATE, _START = 0, 19
_GONE = ("Z", "X", "x")
# It runs, and `/proc` may hide other people's processes (mount option `hidepid`).
_HIDDEN = "hidden"


def new_lease_owner() -> str:
    """Name of this process as a holder, another one each time."""
    pid = os.getpid()
    start = _started(pid) or "0"
    return f"{new_run_id('hold')}@{socket.gethostname()}:{pid}:{_process_space()}:{start}"


def is_dead(holder: str) -> bool:
    """Whether a holder is known to be gone: its process ran here, and runs no more.

    False when that cannot be known: another machine, another container, another start of it.
    """
    match = _HOLDER.match(holder)
    if match is None or match["host"] != socket.gethostname():
        return False
    if not match["space"] or match["space"] != _process_space():
        return False
    return _started(int(match["pid"])) not in (match["start"], _HIDDEN)


def _process_space() -> str:
    """Where process ids count: this start of this machine, and this container of it."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}.{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process started, in ticks since the machine did; nothing when it is not running."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _HIDDEN if _is_anothers(pid) else None
    # The command's name stands in brackets and may hold anything.
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in _GONE else fields[_START]


def _is_anothers(pid: int) -> bool:
    """Whether a process is there that this one may not touch."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False
