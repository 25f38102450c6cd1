"""What breaks below us, in words a person can act on: the one place that translates it.

Spark hands on what happened on its side as text, layers deep, and its process may be gone by the
time anybody asks. So each error of the chain is read as text, the outermost first, and the first
kind that is known by its signs is taken. What is not known stays what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from feature_defs.errors import FraudScoringError, InputMissing
from jobs.lake.tables import TABLES

MAX_CHARACTERS = 300
_FILE = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?/[^\s'\"`,;()\[\]]+")
_LOG_FILE = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?/[^\s'\"`,;()\[\]]*_delta_log[^\s'\"`,;()\[\]]*")
_PARQUET = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?/[^\s'\"`,;()\[\]]+\.parquet")
AGAIN = "then run the same command again; nothing half-written is shown to anybody."


def translate(error: BaseException) -> FraudScoringError | None:
    """The problem behind an error; nothing when it is none that this program knows."""
    for one in _chain(error):
        if isinstance(one, FraudScoringError):
            return one
        said = _said(one)
        for kind in KINDS:
            if match := re.search(kind.signs, said):
                return kind.problem(said, match)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, and what was being handled when it came."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]


def _said(error: BaseException) -> str:
    """All that an error says, Java's own causes included."""
    try:
        text = str(error)
    except Exception as silent:
        # Py4J asks Java for the text, which may not answer any more.
        said = getattr(error, "errmsg", "")
        text = f"{said.strip()} Java gives no answer any more ({type(silent).__name__})"
    parts = [f"{type(error).__name__}: {text}"]
    parts += [getattr(error, "_stackTrace", None) or "", *getattr(error, "__notes__", ())]
    if _came_from_py4j(error):
        parts.append("through py4j")
    return "\n".join(parts)


def is_infrastructure_error(error: BaseException) -> bool:
    """Whether storage, memory or Spark itself has failed, and not what was read."""
    problem = translate(error)
    return problem is not None and type(problem) is FraudScoringError


def _came_from_py4j(error: BaseException) -> bool:
    frame = error.__traceback__
    while frame is not None:
        if "py4j" in frame.tb_frame.f_code.co_filename:
            return True
        frame = frame.tb_next
    return False


# -- the kinds -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of failure: what gives it away, and the problem that it is."""

    signs: str
    problem: Callable[[str, re.Match[str]], FraudScoringError]


def _line(said: str, match: re.Match[str]) -> str:
    """From the sign to the end of its line."""
    return said[match.start() :].split("\n", 1)[0].strip()[:MAX_CHARACTERS]


def _where(said: str, match: re.Match[str], names: re.Pattern[str] = _FILE) -> str:
    """The file and the table in question: named beside the sign, else anywhere."""
    start = said.rfind("\n", 0, match.start()) + 1
    found = names.search(said[start:].split("\n", 1)[0]) or names.search(said)
    if found is not None:
        file = found.group().rstrip(".:")
        table = next((part for part in reversed(file.split("/")) if part in TABLES), None)
        return f" in the table `{table}`: {file}" if table else f": {file}"
    noted = re.search(r"opening the table (`\w+`)", said)
    return f" in the table {noted.group(1)}" if noted else ""


def _of_an_executor(said: str, match: re.Match[str]) -> FraudScoringError:
    """A problem that our own code met on an executor: the same there as here."""
    name, found, expected, remedy = match.groups()
    kinds = {kind.__name__: kind for kind in FraudScoringError.__subclasses__()}
    return kinds.get(name, FraudScoringError)(found, expected=expected, remedy=remedy)


def _no_space(said: str, match: re.Match[str]) -> FraudScoringError:
    return FraudScoringError(
        f"The storage is full ({match.group()}){_where(said, match)}.",
        expected="room for what this command writes, in the lake and in Spark's temporary folder.",
        remedy="make room (`fraud-scoring maintain` sweeps what dead runs left, `doctor` says what "
        f"is free), {AGAIN}",
    )


def _refused(said: str, match: re.Match[str]) -> FraudScoringError:
    return FraudScoringError(
        f"The storage refuses this user ({match.group()}){_where(said, match)}.",
        expected="a lake that this user may read and write.",
        remedy=f"mount it writable or correct its permissions, {AGAIN}",
    )


def _no_memory(said: str, match: re.Match[str]) -> FraudScoringError:
    return FraudScoringError(
        f"Spark ran out of memory: {_line(said, match)}",
        expected="a Java process that is large enough for the night.",
        remedy="give the driver more with driver_memory (FRAUD_DRIVER_MEMORY), or executors more "
        f"with `spark`, {AGAIN}",
    )


def _spark_died(said: str, match: re.Match[str]) -> FraudScoringError:
    return FraudScoringError(
        f"Spark's own process has ended in the middle: {_line(said, match)}",
        expected="a Java process that lives as long as the command.",
        remedy="look in the system's log for who ended it (as a rule the kernel, for want of "
        f"memory: `doctor` says how much is free), {AGAIN}",
    )


def _conflict(said: str, match: re.Match[str]) -> FraudScoringError:
    return FraudScoringError(
        f"Another run wrote the same rows at the same moment: {_line(said, match)}",
        expected="nights that one run at a time writes.",
        remedy=f"wait until the other run has ended, {AGAIN}",
    )


def _version_gone(said: str, match: re.Match[str]) -> FraudScoringError:
    return InputMissing(
        f"A recorded version of a table is gone: {_line(said, match)}",
        expected="every version that was read within the audit horizon (`audit_days`).",
        remedy="restore the table from a copy of that time; what lies before the horizon cannot "
        "be read any more.",
    )


def _damaged_log(said: str, match: re.Match[str]) -> FraudScoringError:
    return InputMissing(
        f"Delta's log is damaged{_where(said, match, _LOG_FILE)} ({_line(said, match)}).",
        expected="every entry of the folder `_delta_log`, as Delta wrote it.",
        remedy="restore the table's folder from a copy; `fraud-scoring doctor` names every table "
        "that cannot be read.",
    )


def _damaged_file(said: str, match: re.Match[str]) -> FraudScoringError:
    return InputMissing(
        f"A file is damaged or missing{_where(said, match, _PARQUET)} ({_line(said, match)}).",
        expected="every Parquet file that a table's log names, as it was written.",
        remedy="restore the file from a copy. Without one: a night's features, scores and alerts "
        "can be made again from its transactions; transactions come with their delivery.",
    )


KINDS = (
    Kind(
        r"feature_defs\.errors\.(\w+): (.*?) Expected: (.*?) What to do: ([^\n]*)",
        _of_an_executor,
    ),
    Kind(r"OutOfMemoryError|Java heap space|GC overhead limit exceeded", _no_memory),
    Kind(
        r"No space left on device|File too large|Disk quota exceeded|database or disk is full",
        _no_space,
    ),
    Kind(
        r"Read-only file system|Permission denied|AccessControlException|readonly database"
        r"|Mkdirs failed to create",
        _refused,
    ),
    Kind(
        r"Py4JNetworkError|Answer from Java side is empty|Java gives no answer"
        r"|java gateway process exited|\b(?:io|java|org)(?:\.[\w.]+)? does not exist in the JVM"
        # An answer without a word: with Java alive there would be a trace.
        r"|\bPy4JError: An error occurred while calling \S+\n"
        r"|Connection\w*Error: [^\n]*\nthrough py4j",
        _spark_died,
    ),
    Kind(
        r"DELTA_CONCURRENT_\w+|Concurrent(?:Append|Delete\w+|Modification|Write)Exception",
        _conflict,
    ),
    Kind(
        r"Cannot time travel Delta table to version|DELTA_VERSION_NOT_FOUND|VersionNotFound",
        _version_gone,
    ),
    Kind(
        r"DELTA_VERSIONS_NOT_CONTIGUOUS|DELTA_TRUNCATED_TRANSACTION_LOG"
        r"|DELTA_STATE_RECOVER_ERROR|DELTA_MISSING_PART_FILES|DELTA_LOG_FILE_NOT_FOUND"
        r"|FAILED_READ_FILE[^\n]*_delta_log",
        _damaged_log,
    ),
    Kind(
        r"FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|is not a Parquet file"
        r"|DELTA_FILE_NOT_FOUND|ParquetDecodingException",
        _damaged_file,
    ),
)
