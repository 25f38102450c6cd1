"""Reasons of an event: its largest contributions to the ranking value, observed and expected."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

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
    ]
)


def reasons_of(
    contributions: Floats, observed: Floats, expected: Floats, columns: tuple[str, ...]
) -> pa.Array:
    """Return [N] lists of the at most 3 largest contributions [N, F], largest first.

    Only positive contributions are reasons. `observed` and `expected` [N, F] become null where
    they are NaN.
    """
    # A stable sort keeps equal contributions in the order of the columns.
    top = np.argsort(-contributions, axis=1, kind="stable")[:, :NUM_REASONS]
    contribution = np.take_along_axis(contributions, top, axis=1)
    is_reason = contribution > 0
    names = pa.array(columns, type=pa.string()).take(pa.array(top[is_reason]))
    top_observed = np.take_along_axis(observed, top, axis=1)[is_reason]
    top_expected = np.take_along_axis(expected, top, axis=1)[is_reason]
    items = pa.StructArray.from_arrays(
        [
            names,
            pa.array(top_observed, mask=np.isnan(top_observed)),
            pa.array(top_expected, mask=np.isnan(top_expected)),
            pa.array(contribution[is_reason]),
        ],
        fields=list(REASON_TYPE),
    )
    offsets = np.concatenate([[0], np.cumsum(is_reason.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=pa.list_(REASON_TYPE))
