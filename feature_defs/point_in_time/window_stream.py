"""One pass over an entity's sorted stream, batch by batch: no Spark, and no call per key.

Rows are sorted by key and slice (their group), time and order. The windows of all asked rows of a
batch are found together (`windows.py`); of the batch before only those rows of its last group are
kept that windows can still reach. So memory follows the events of a group inside the lookback, and
a busy key is cut into slices, each a group (`hot_keys.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_defs.point_in_time.stream_plan import NO_WINDOW, ROW, TIME, StreamPlan
from feature_defs.point_in_time.windows import Rows, Whole, Windows

# Rows looked at together; their groups and times have to fit into one whole number.
PIECE_ROWS = 16_384
LARGEST = 2**61


@dataclass(frozen=True)
class WindowStream:
    """Maps a sorted stream to its asked rows with their features; runs on executors."""

    plan: StreamPlan

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Asked rows of one partition, in order: the keys, what rows carried, the features."""
        carried: Rows | None = None
        group: tuple[object, ...] | None = None
        for batch in batches:
            for piece in _pieces(batch, self.plan.reach):
                rows = self._read(piece, carried, group)
                asked = piece.column(ROW).is_valid()
                # Rows of this piece come after the carried ones.
                at = np.flatnonzero(asked.to_numpy(zero_copy_only=False))
                at += rows.num_rows - piece.num_rows
                if len(at):
                    yield self._answer(piece, asked, Windows(rows, at, self.plan))
                carried, group = rows, _group(piece, self.plan, piece.num_rows - 1)

    def _read(
        self, piece: pa.RecordBatch, carried: Rows | None, group: tuple[object, ...] | None
    ) -> Rows:
        starts = np.zeros(piece.num_rows, dtype=bool)
        for name in self.plan.group:
            column = piece.column(name)
            differs = pc.not_equal(column.slice(1), column.slice(0, len(column) - 1))
            starts[1:] |= differs.to_numpy(zero_copy_only=False)
        numbers = {name: _numbers(piece, name) for name in self.plan.numbers}
        if carried is None or group != _group(piece, self.plan, 0):
            return Rows(np.cumsum(starts), numbers)
        before = kept(carried, self.plan, numbers[TIME][0] - self.plan.reach)
        return Rows(
            np.concatenate([before.group, np.cumsum(starts)]),
            {name: np.concatenate([before.columns[name], numbers[name]]) for name in numbers},
            before.settled,
        )

    def _answer(
        self, piece: pa.RecordBatch, asked: pa.BooleanArray, windows: Windows
    ) -> pa.RecordBatch:
        keys = [piece.column(key).filter(asked) for key in self.plan.keys]
        row = piece.column(ROW).filter(asked)
        values = [windows.value(feature) for feature in self.plan.features]
        names = (*self.plan.keys, *(field.name for field in row.type))
        return pa.RecordBatch.from_arrays(
            [*keys, *row.flatten(), *values],
            names=[*names, *(feature.name for feature in self.plan.features)],
        )


def _group(piece: pa.RecordBatch, plan: StreamPlan, row: int) -> tuple[object, ...]:
    return tuple(piece.column(name)[row].as_py() for name in plan.group)


def _numbers(piece: pa.RecordBatch, name: str) -> Whole:
    numbers: Whole = piece.column(name).to_numpy().astype(np.int64, copy=False)
    return numbers


def _pieces(batch: pa.RecordBatch, reach: int) -> Iterator[pa.RecordBatch]:
    """Parts of a batch that are small enough for one whole number per group and time."""
    if batch.num_rows == 0:
        return
    bounds = pc.min_max(batch.column(TIME))
    # Carried rows may lie up to `reach` before.
    span = bounds["max"].as_py() - bounds["min"].as_py() + 2 * reach + 1
    size = int(max(1, min(PIECE_ROWS, LARGEST // span - 2)))
    for start in range(0, batch.num_rows, size):
        yield batch.slice(start, size)


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
