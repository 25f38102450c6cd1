"""Translate errors of Spark, Delta and the storage into messages that an operator can act on.

Spark reports what happened in Java as nested text, and its process may be gone when Python reads
the error. So each error of the chain is matched as text, the outermost first, against a table of
patterns; the first match decides. An error that matches no pattern is not translated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from feature_defs.errors import FraudScoringError, InputMissing
from jobs.lake.tables import TABLES

MAX_CHARACTERS = 300
_FILE = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?/[^\s'\"`,;()\[\]]+")
_LOG_FILE = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?/[^\s'\"`,;()\[\]]*_delta_log[^\s'\"`,;()\[\]]*")
_PARQUET = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?/[^\s'\"`,;()\[\]]+\.parquet")
# Our own error, raised on an executor: Spark passes on its text only.
_EXECUTOR_ERROR = re.compile(
    r"feature_defs\.errors\.(\w+): (.*?) Expected: (.*?) What to do: ([^\n]*)"
)
RERUN = "then run the same command again. No partial result was published."


@dataclass(frozen=True)
class ErrorPattern:
    """One kind of failure: the text that identifies it and the error that is raised for it.

    `found` may contain `{sign}` (the matched text), `{line}` (the rest of its line) and `{file}`
    (the file and table concerned, of the names that `file` matches; may be empty).
    """

    signs: str
    error: type[FraudScoringError]
    found: str
    expected: str
    remedy: str
    file: re.Pattern[str] = _FILE


PATTERNS = (
    ErrorPattern(
        r"OutOfMemoryError|Java heap space|GC overhead limit exceeded",
        FraudScoringError,
        "Spark ran out of memory: {line}",
        expected="a Java process with enough memory for the night.",
        remedy="increase the driver's memory with driver_memory (FRAUD_DRIVER_MEMORY), or the "
        f"executors' memory with `spark`, {RERUN}",
    ),
    ErrorPattern(
        r"No space left on device|File too large|Disk quota exceeded|database or disk is full",
        FraudScoringError,
        "The storage is full ({sign}){file}.",
        expected="free space for this command's output, in the lake and in Spark's temporary "
        "folder.",
        remedy="free some space (`fraud-scoring maintain` deletes leftovers of dead runs, "
        f"`fraud-scoring doctor` reports the free space), {RERUN}",
    ),
    ErrorPattern(
        r"Read-only file system|Permission denied|AccessControlException|readonly database"
        r"|Mkdirs failed to create",
        FraudScoringError,
        "The storage denies access to this user ({sign}){file}.",
        expected="a lake that this user may read and write.",
        remedy=f"mount the storage writable or correct its permissions, {RERUN}",
    ),
    ErrorPattern(
        r"Py4JNetworkError|Answer from Java side is empty|Java gives no answer"
        r"|java gateway process exited|\b(?:io|java|org)(?:\.[\w.]+)? does not exist in the JVM"
        # An empty answer: a live Java process would have sent a stack trace.
        r"|\bPy4JError: An error occurred while calling \S+\n"
        r"|Connection\w*Error: [^\n]*\nthrough py4j",
        FraudScoringError,
        "Spark's Java process ended unexpectedly: {line}",
        expected="a Java process that runs until the command ends.",
        remedy="find out from the system log what ended it (usually the kernel, when memory runs "
        f"out; `fraud-scoring doctor` reports the free memory), {RERUN}",
    ),
    ErrorPattern(
        r"DELTA_CONCURRENT_\w+|Concurrent(?:Append|Delete\w+|Modification|Write)Exception",
        FraudScoringError,
        "Another run wrote the same rows at the same time: {line}",
        expected="no more than one run at a time that writes to a night.",
        remedy=f"wait until the other run has ended, {RERUN}",
    ),
    ErrorPattern(
        r"Cannot time travel Delta table to version|DELTA_VERSION_NOT_FOUND|VersionNotFound",
        InputMissing,
        "A recorded version of a table no longer exists: {line}",
        expected="every version that a run has read within the audit horizon (`audit_days`).",
        remedy="restore the table from a backup of that time. Versions older than the horizon "
        "cannot be read any more.",
    ),
    ErrorPattern(
        r"DELTA_VERSIONS_NOT_CONTIGUOUS|DELTA_TRUNCATED_TRANSACTION_LOG"
        r"|DELTA_STATE_RECOVER_ERROR|DELTA_MISSING_PART_FILES|DELTA_LOG_FILE_NOT_FOUND"
        r"|FAILED_READ_FILE[^\n]*_delta_log",
        InputMissing,
        "Delta's log is damaged{file} ({line}).",
        expected="every entry of the folder `_delta_log`, as Delta wrote it.",
        remedy="restore the table's folder from a backup. `fraud-scoring doctor` names every table "
        "that cannot be read.",
        file=_LOG_FILE,
    ),
    ErrorPattern(
        r"FAILED_READ_FILE|CANNOT_READ_FILE_FOOTER|is not a Parquet file"
        r"|DELTA_FILE_NOT_FOUND|ParquetDecodingException",
        InputMissing,
        "A file is damaged or missing{file} ({line}).",
        expected="every Parquet file that a table's log names, as it was written.",
        remedy="restore the file from a backup. Without a backup, compute a night's features, "
        "scores and alerts again from its transactions, and ingest transactions again from their "
        "delivery.",
        file=_PARQUET,
    ),
)


def translate(error: BaseException) -> FraudScoringError | None:
    """Return our own error for any error, or `None` if it matches no known pattern."""
    for one in _chain(error):
        if isinstance(one, FraudScoringError):
            return one
        text = _text_of(one)
        if match := _EXECUTOR_ERROR.search(text):
            return _from_executor(match)
        for pattern in PATTERNS:
            if match := re.search(pattern.signs, text):
                return _apply(pattern, text, match)
    return None


def is_infrastructure_error(error: BaseException) -> bool:
    """Return whether storage, memory or Spark itself failed, rather than the data being wrong."""
    translated = translate(error)
    return translated is not None and type(translated) is FraudScoringError


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all errors that led to it: its causes and its contexts."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, one.__context__]


def _text_of(error: BaseException) -> str:
    """Return the full text of an error, including its Java causes and notes."""
    try:
        text = str(error)
    except Exception as failure:
        # Py4J asks Java for the text, and Java may be gone.
        message = getattr(error, "errmsg", "")
        text = f"{message.strip()} Java gives no answer any more ({type(failure).__name__})"
    parts = [f"{type(error).__name__}: {text}"]
    parts += [getattr(error, "_stackTrace", None) or "", *getattr(error, "__notes__", ())]
    if _came_from_py4j(error):
        parts.append("through py4j")
    return "\n".join(parts)


def _came_from_py4j(error: BaseException) -> bool:
    frame = error.__traceback__
    while frame is not None:
        if "py4j" in frame.tb_frame.f_code.co_filename:
            return True
        frame = frame.tb_next
    return False


def _from_executor(match: re.Match[str]) -> FraudScoringError:
    """Rebuild an error of this program that was raised on an executor."""
    name, found, expected, remedy = match.groups()
    classes = {error.__name__: error for error in FraudScoringError.__subclasses__()}
    return classes.get(name, FraudScoringError)(found, expected=expected, remedy=remedy)


def _apply(pattern: ErrorPattern, text: str, match: re.Match[str]) -> FraudScoringError:
    """Fill in the error of a pattern from the text that it matched."""
    found = pattern.found.format(
        sign=match.group(),
        line=text[match.start() :].split("\n", 1)[0].strip()[:MAX_CHARACTERS],
        file=_file_and_table(text, match, pattern.file),
    )
    return pattern.error(found, expected=pattern.expected, remedy=pattern.remedy)


def _file_and_table(text: str, match: re.Match[str], names: re.Pattern[str]) -> str:
    """Describe the file and table concerned: named on the matched line, else anywhere."""
    start = text.rfind("\n", 0, match.start()) + 1
    name = names.search(text[start:].split("\n", 1)[0]) or names.search(text)
    if name is not None:
        file = name.group().rstrip(".:")
        table = next((part for part in reversed(file.split("/")) if part in TABLES), None)
        return f" in the table `{table}`: {file}" if table else f": {file}"
    noted = re.search(r"opening the table (`\w+`)", text)
    return f" in the table {noted.group(1)}" if noted else ""
