"""Reasons of an event: its largest contributions to the ranking value, observed and expected.

A number has `observed` and `expected`; a category has `observed_text` and `expected_text`, and the
other two are null. `expected_text` is null where the most likely class is `other`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]

NUM_REASONS = 3
# Reason for what a supervised head reads in the code: the card's history, not one column.
CARD_HISTORY = "card_history"
REASON_TYPE = pa.struct(
    [
        pa.field("feature", pa.string()),
        pa.field("observed", pa.float64()),
        pa.field("expected", pa.float64()),
        pa.field("contribution", pa.float64()),
        # New fields go to the end: tables and readers of earlier versions lack them.
        pa.field("observed_text", pa.string()),
        pa.field("expected_text", pa.string()),
    ]
)


@dataclass(frozen=True)
class CategoryTexts:
    """What was observed and expected of one categorical column, as text [N]."""

    observed: pa.Array
    """The value itself, also if it has no code of its own; null where missing."""
    expected: pa.Array
    """The most likely value; null for `other`."""

    def at(self, event: int) -> tuple[str | None, str | None]:
        """Return what was observed and expected of one event."""
        return self.observed[event].as_py(), self.expected[event].as_py()


def reasons_of(
    contributions: Floats,
    observed: Floats,
    expected: Floats,
    columns: tuple[str, ...],
    texts: Mapping[str, CategoryTexts],
) -> pa.Array:
    """Return [N] lists of the at most 3 largest contributions [N, F], largest first.

    Only positive contributions are reasons. `observed` and `expected` [N, F] become null where
    they are NaN. `texts` has the categorical columns, whose numbers are NaN.
    """
    # A stable sort keeps equal contributions in the order of the columns.
    top = np.argsort(-contributions, axis=1, kind="stable")[:, :NUM_REASONS]
    contribution = np.take_along_axis(contributions, top, axis=1)
    is_reason = contribution > 0
    column_of = top[is_reason]
    event_of = np.nonzero(is_reason)[0]
    names = pa.array(columns, type=pa.string()).take(pa.array(column_of))
    top_observed = np.take_along_axis(observed, top, axis=1)[is_reason]
    top_expected = np.take_along_axis(expected, top, axis=1)[is_reason]
    items = pa.StructArray.from_arrays(
        [
            names,
            pa.array(top_observed, mask=np.isnan(top_observed)),
            pa.array(top_expected, mask=np.isnan(top_expected)),
            pa.array(contribution[is_reason]),
            _texts({name: item.observed for name, item in texts.items()}, names, event_of),
            _texts({name: item.expected for name, item in texts.items()}, names, event_of),
        ],
        fields=list(REASON_TYPE),
    )
    offsets = np.concatenate([[0], np.cumsum(is_reason.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=pa.list_(REASON_TYPE))


def _texts(
    by_column: Mapping[str, pa.Array], names: pa.Array, event_of: npt.NDArray[np.intp]
) -> pa.Array:
    """Return the text of each reason, by its column and its event; null for a number."""
    found = pa.nulls(len(names), pa.string())
    for name, values in by_column.items():
        is_column = pc.equal(names, name)
        chosen = values.take(pa.array(event_of)).cast(pa.string())
        found = pc.if_else(is_column, chosen, found)
    return found
