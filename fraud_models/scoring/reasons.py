"""Why an event ranks as it does: its largest contributions, with what was and what was expected."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]

NUM_REASONS = 3
# What a supervised head reads in the code: of no column, but of how the card has paid before.
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
    """[N] lists of the (at most 3) largest contributions [N, F], largest first.

    What adds nothing, or speaks against it, is no reason. `observed` and `expected` [N, F] are
    NaN where there is nothing to tell, which becomes null.
    """
    # Stable, so that equal contributions keep the columns' order.
    top = np.argsort(-contributions, axis=1, kind="stable")[:, :NUM_REASONS]
    contribution = np.take_along_axis(contributions, top, axis=1)
    told = contribution > 0
    names = pa.array(columns, type=pa.string()).take(pa.array(top[told]))
    was = np.take_along_axis(observed, top, axis=1)[told]
    should = np.take_along_axis(expected, top, axis=1)[told]
    items = pa.StructArray.from_arrays(
        [
            names,
            pa.array(was, mask=np.isnan(was)),
            pa.array(should, mask=np.isnan(should)),
            pa.array(contribution[told]),
        ],
        fields=list(REASON_TYPE),
    )
    offsets = np.concatenate([[0], np.cumsum(told.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=pa.list_(REASON_TYPE))
