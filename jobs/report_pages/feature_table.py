"""All features of the catalogue as a table that a person reads: `features --describe`."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from feature_defs.catalogue import FEATURES
from feature_defs.feature import LABEL_FUNCTIONS, Feature
from jobs.report_pages.wording import label
from jobs.runtime.logs import wide_console

# Wider than any line, where no terminal says how wide it is.
WIDE = 10_000
HEADINGS = ("feature", "is", "why", "clock", "window", "lookback, days")


def clocks(feature: Feature) -> tuple[str, ...]:
    """Columns that say when what a feature is made from became known, all UTC."""
    known = {"event_time"}
    if feature.function in LABEL_FUNCTIONS:
        known.add("label_time")
    for part in feature.parts:
        known |= set(clocks(part))
    return tuple(sorted(known))


def window(feature: Feature) -> str:
    """The window of a transaction at `t`, open at its start and closed at its end.

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
    """One row per feature, under `HEADINGS`."""
    return [
        (
            feature.name,
            label(feature.name),
            feature.description,
            ", ".join(clocks(feature)),
            window(feature),
            str(feature.lookback_days),
        )
        for feature in FEATURES.values()
    ]


def show() -> None:
    """Print the table; where nobody's terminal sets the width, each feature stays on its line."""
    table = Table(*HEADINGS)
    for row in rows():
        table.add_row(*map(escape, row))
    wide_console(WIDE).print(table)
