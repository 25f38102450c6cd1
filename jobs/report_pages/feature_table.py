"""Print all features of the catalogue as a table: `features --describe`."""

from __future__ import annotations

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from feature_defs.catalogue import FEATURES, missing_attributes
from feature_defs.feature import LABEL_FUNCTIONS, Feature
from feature_defs.windows import in_whole_units
from jobs.report_pages.wording import label
from jobs.runtime.logs import wide_console

# Width without a terminal: wider than any line, so that no line is wrapped.
WIDE = 10_000
HEADINGS = ("feature", "meaning", "purpose", "clock", "window", "lookback, days", "attributes")


def time_columns(feature: Feature) -> tuple[str, ...]:
    """Return the time columns (UTC) that decide when the inputs of a feature become known."""
    known = {"event_time"}
    if feature.function in LABEL_FUNCTIONS:
        known.add("label_time")
    for part in feature.parts:
        known |= set(time_columns(part))
    return tuple(sorted(known))


def window(feature: Feature) -> str:
    """Return the window for a transaction at `t`, open at its start and closed at its end.

    >>> from feature_defs.catalogue import feature
    >>> window(feature("card_count_7d")), window(feature("merchant_count_7d_delay_7d"))
    ('(t - 7 d, t]', '(t - 14 d, t - 7 d]')
    """
    if feature.parts:
        return f"of {' and '.join(part.name for part in feature.parts)}"
    if feature.window is None:
        return "the transaction itself"
    end = f"t - {_short(feature.window.delay_s)}" if feature.window.delay_s else "t"
    return f"(t - {_short(feature.window.lookback_s)}, {end}]"


def _short(seconds: int) -> str:
    number, unit = in_whole_units(seconds)
    return f"{number} {'min' if unit == 'minute' else unit[0]}"


def attributes(feature: Feature, columns: Mapping[str, str] | None) -> str:
    """Return the attributes that a feature reads, and which of them a lake does not have.

    `columns` are those of the lake's `transactions`, or None without a lake.

    >>> from feature_defs.catalogue import feature
    >>> attributes(feature("transaction_channel"), None)
    'channel'
    >>> attributes(feature("transaction_channel"), {})
    'not available: no channel'
    """
    missing = [] if columns is None else missing_attributes(feature, columns)
    if missing:
        return f"not available: no {', '.join(missing)}"
    return ", ".join(column.name for column in feature.needed_attributes)


def rows(columns: Mapping[str, str] | None = None) -> list[tuple[str, ...]]:
    """Return one row per feature, with the columns `HEADINGS`.

    `columns` are those of a lake's `transactions`, or None without a lake.
    """
    return [
        (
            feature.name,
            label(feature.name),
            feature.description,
            ", ".join(time_columns(feature)),
            window(feature),
            str(feature.lookback_days),
            attributes(feature, columns),
        )
        for feature in FEATURES.values()
    ]


def show(columns: Mapping[str, str] | None = None) -> None:
    """Print the table; without a terminal, each feature stays on one line.

    `columns` are those of a lake's `transactions`, or None without a lake.
    """
    table = Table(*HEADINGS)
    for row in rows(columns):
        table.add_row(*map(escape, row))
    wide_console(WIDE).print(table)
