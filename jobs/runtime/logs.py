"""Log lines: plain text on a terminal, otherwise one JSON object per line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from feature_defs.errors import without_passwords

if TYPE_CHECKING:
    from rich.console import Console

NON_TERMINAL_WIDTH = 180
LOGGER = logging.getLogger("fraud_scoring")


class JsonLines(logging.Formatter):
    """Format records as `{"ts": …, "level": …, "msg": …}` and `extra["fields"]` of the caller."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON, without passwords."""
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return without_passwords(json.dumps(line, default=str))


class Text(logging.Formatter):
    """Format records as `12:31:05 features: …`, time in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of text, without control characters and passwords."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return f"{moment:%H:%M:%S} {escape_control_characters(record.getMessage())}"


def escape_control_characters(text: str) -> str:
    """Return text that is safe for a terminal: non-printable characters become escape codes.

    This includes control and bidirectional characters. Passwords in URLs are removed.

    >>> escape_control_characters("a\\x1b[2Jb\\u202ec")
    'a\\\\x1b[2Jb\\\\u202ec'
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in without_passwords(text)
    )


def set_up_logs(log_format: Literal["json", "text"] | None) -> None:
    """Send our log lines to standard error; libraries log warnings and errors only.

    Without a format, a terminal gets text and anything else JSON.
    """
    chosen = log_format or ("text" if sys.stderr.isatty() else "json")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Text() if chosen == "text" else JsonLines())
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False


def log_event(message: str, **fields: object) -> None:
    """Log one line; `fields` become keys of the JSON form."""
    LOGGER.info(message, extra={"fields": fields})


def wide_console(width: int = NON_TERMINAL_WIDTH) -> Console:
    """Return a console for tables on standard output, `width` columns wide if not a terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=width)
