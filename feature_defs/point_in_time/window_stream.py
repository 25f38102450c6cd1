"""One pass over an entity's sorted stream, batch by batch: no Spark, and no call per key.

Rows are sorted by key and slice (their group), time and order. The windows of all asked rows of a
batch are found together (`windows.py`); of the batch before only those rows of its last group are
kept that windows can still reach. So memory follows the events of a group inside the lookback, and
a busy key is cut into slices, each a group (`hot_keys.py`).

Spark hands over whole numbers alone and takes the features back: keys, ids and whatever else a
row carries stay where they are, which is most of what a row weighs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_defs.point_in_time.stream_plan import ASKED, NO_WINDOW, START, TIME, StreamPlan
from feature_defs.point_in_time.window_values import Rows, Values, Whole, Windows

Columns = Mapping[str, npt.NDArray[Any]]

# Rows looked at together; their groups and times have to fit into one whole number.
PIECE_ROWS = 16_384
LARGEST = 2**61


@dataclass(frozen=True)
class WindowStream:
    """Maps a sorted stream to the features of its asked rows; runs on executors."""

    plan: StreamPlan

    def __call__(self, batches: Iterable[tuple[pd.Series[Any], ...]]) -> Iterator[pd.DataFrame]:
        """Features of one partition's rows, in order; zeros for those that are not asked.

        A batch is the columns `plan.read`.
        """
        carried: Rows | None = None
        for batch in batches:
            columns = {
                name: _whole(name, column)
                for name, column in zip(self.plan.read, batch, strict=True)
            }
            num_rows = len(columns[TIME])
            values: dict[str, Values] = {
                feature.name: np.zeros(num_rows, np.int64 if feature.type == "bigint" else float)
                for feature in self.plan.features
            }
            for piece in _pieces(columns[TIME], self.plan.reach):
                carried = self._look(columns, piece, carried, values)
            yield pd.DataFrame(values, copy=False)

    def _look(
        self, columns: Columns, piece: slice, carried: Rows | None, values: dict[str, Values]
    ) -> Rows:
        """Fill in the values of a piece; returns its rows, which the next one may need."""
        rows = self._read({name: column[piece] for name, column in columns.items()}, carried)
        asked = np.flatnonzero(columns[ASKED][piece])
        if len(asked):
            # Rows of this piece come after the carried ones.
            before = rows.num_rows - (piece.stop - piece.start)
            windows = Windows(rows, before + asked, self.plan)
            for feature in self.plan.features:
                values[feature.name][piece.start + asked] = windows.value(feature)
        return rows

    def _read(self, piece: Columns, carried: Rows | None) -> Rows:
        numbers: dict[str, Whole] = {name: piece[name] for name in self.plan.numbers}
        starts = piece[START]
        group = np.cumsum(starts, dtype=np.int64) - int(starts[0])
        if starts[0]:
            return Rows(group, numbers)
        assert carried is not None, "a stream begins in the middle of a group"
        before = kept(carried, self.plan, numbers[TIME][0] - self.plan.reach)
        return Rows(
            np.concatenate([before.group, group]),
            {name: np.concatenate([before.columns[name], numbers[name]]) for name in numbers},
            before.settled,
        )


def _whole(name: str, column: pd.Series[Any]) -> npt.NDArray[Any]:
    numbers = column.to_numpy()
    # Nulls would turn whole numbers into floats, which are not exact.
    assert numbers.dtype.kind in "bi", f"{name} holds a null"
    return numbers if numbers.dtype.kind == "b" else numbers.astype(np.int64, copy=False)


def _pieces(time: Whole, reach: int) -> Iterator[slice]:
    """Parts of a batch that are small enough for one whole number per group and time."""
    if len(time) == 0:
        return
    # Carried rows may lie up to `reach` before.
    span = int(time.max()) - int(time.min()) + 2 * reach + 1
    size = max(1, min(PIECE_ROWS, LARGEST // span - 2))
    for start in range(0, len(time), size):
        yield slice(start, min(start + size, len(time)))


def kept(rows: Rows, plan: StreamPlan, after: int) -> Rows:
    """Rows of the last group that happened after a moment, and the sums of those before."""
    last_group = rows.group == rows.group[-1]
    keep = last_group & (rows.time > after)
    settled = dict(rows.settled) if rows.group[-1] == 0 else {}
    gone = last_group & ~keep
    for place in np.unique(rows.corrects[gone]).tolist():
        mine = gone & (rows.corrects == place)
        for summed in plan.sums:
            if place == NO_WINDOW and summed.what not in ("begun", "ended"):
                continue
            name = (summed.column, place)
            settled[name] = settled.get(name, 0) + int(rows.columns[summed.column][mine].sum())
    columns = {name: column[keep] for name, column in rows.columns.items()}
    return Rows(np.zeros(int(keep.sum()), dtype=np.int64), columns, settled)
