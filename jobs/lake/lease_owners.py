"""Names of lease owners. A name identifies the process, so a dead owner is recognised at once.

A lease expires by itself, but its timeout is made for long jobs. If a run was killed on this
machine, its process is looked up and its lease is taken over without waiting. An owner that is
wrongly taken for dead still cannot publish, because every write is fenced (`jobs/lake/nights.py`).
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from jobs.lake.runs import new_run_id

_OWNER = re.compile(r"^(?P<id>[^@]+)@(?P<host>[^:]+):(?P<pid>\d+):(?P<space>[^:]*):(?P<start>\d+)$")
_PROC = Path("/proc")
# Indices of /proc/<pid>/stat after the command name (man proc_pid_stat): state, start time.
_STATE, _START = 0, 19
# States of a process that has ended: zombie, dead.
_ENDED_STATES = ("Z", "X", "x")
# The process runs, but `/proc` hides other users' processes (mount option `hidepid`).
_HIDDEN = "hidden"


def new_lease_owner() -> str:
    """Return a new lease owner name for this process; each call returns a different one."""
    pid = os.getpid()
    start = _start_time(pid) or "0"
    return f"{new_run_id('hold')}@{socket.gethostname()}:{pid}:{_process_space()}:{start}"


def is_dead(owner: str) -> bool:
    """Return whether a lease owner is known to be dead: its process ran here and has ended.

    Return `False` if that cannot be known: the owner ran on another machine, in another container,
    or before this machine was restarted.
    """
    match = _OWNER.match(owner)
    if match is None or match["host"] != socket.gethostname():
        return False
    if not match["space"] or match["space"] != _process_space():
        return False
    return _start_time(int(match["pid"])) not in (match["start"], _HIDDEN)


def _process_space() -> str:
    """Return an id of the scope in which process ids are unique: boot id and pid namespace."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}.{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since boot, or `None` if it has ended."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _HIDDEN if _is_other_users(pid) else None
    # The command name is in brackets and may contain any character.
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in _ENDED_STATES else fields[_START]


def _is_other_users(pid: int) -> bool:
    """Return whether a process exists that this user may not signal."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False
