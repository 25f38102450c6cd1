"""Print all features of the catalogue as a table: `features --describe`."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from feature_defs.catalogue import FEATURES
from feature_defs.feature import LABEL_FUNCTIONS, Feature
from jobs.report_pages.wording import label
from jobs.runtime.logs import wide_console

# Width without a terminal: wider than any line, so that no line is wrapped.
WIDE = 10_000
HEADINGS = ("feature", "meaning", "purpose", "clock", "window", "lookback, days")


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
    end = f"t - {feature.window.delay_days} d" if feature.window.delay_days else "t"
    return f"(t - {feature.window.lookback_days} d, {end}]"


def rows() -> list[tuple[str, ...]]:
    """Return one row per feature, with the columns `HEADINGS`."""
    return [
        (
            feature.name,
            label(feature.name),
            feature.description,
            ", ".join(time_columns(feature)),
            window(feature),
            str(feature.lookback_days),
        )
        for feature in FEATURES.values()
    ]


def show() -> None:
    """Print the table; without a terminal, each feature stays on one line."""
    table = Table(*HEADINGS)
    for row in rows():
        table.add_row(*map(escape, row))
    wide_console(WIDE).print(table)
