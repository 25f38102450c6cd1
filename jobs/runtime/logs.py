"""Log lines: text for people at a terminal, one JSON object per line otherwise."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from feature_defs.errors import without_passwords

if TYPE_CHECKING:
    from rich.console import Console

FILE_WIDTH = 180
LOGGER = logging.getLogger("fraud_scoring")


class JsonLines(logging.Formatter):
    """`{"ts": …, "level": …, "msg": …, and what the caller added as extra["fields"]}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return without_passwords(json.dumps(line, default=str))


class Text(logging.Formatter):
    """`12:31:05 features: …`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of text."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return f"{moment:%H:%M:%S} {escape_control_characters(record.getMessage())}"


def escape_control_characters(text: str) -> str:
    """Text for a terminal: what would steer it (control, zone and direction signs) as its code.

    Passwords in addresses are left out.

    >>> escape_control_characters("a\\x1b[2Jb\\u202ec")
    'a\\\\x1b[2Jb\\\\u202ec'
    """
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii")
        for sign in without_passwords(text)
    )


def set_up_logs(log_format: Literal["json", "text"] | None) -> None:
    """Send our log lines to standard error in the wanted form; libraries only from warnings up."""
    chosen = log_format or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Text() if chosen == "text" else JsonLines())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def log_event(message: str, **fields: object) -> None:
    """Log one line; `fields` become keys of the JSON form."""
    LOGGER.info(message, extra={"fields": fields})


def wide_console(width: int = FILE_WIDTH) -> Console:
    """Standard output for tables, as wide as all figures where there is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=width)
