"""Computes the windows of an entity's sorted stream in one pass, batch by batch, with numpy.

Rows are sorted by group (key and slice), time and order within an instant. The windows of all
output rows of a batch are computed together (`window_values.py`), not key by key. From the previous
batch it keeps only those rows of the last group that later windows can contain. So memory depends
on the events of one group within the lookback; a hot key is split into slices, each its own group
(`hot_keys.py`).

Spark passes integer columns only and receives the features. Keys, ids and the other columns, most
of a row's bytes, stay in the JVM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from feature_defs.point_in_time.earlier_events import Ints
from feature_defs.point_in_time.stream_plan import (
    GROUP_START,
    IS_OUTPUT,
    NO_WINDOW,
    TIME,
    StreamPlan,
)
from feature_defs.point_in_time.window_values import Rows, Values, WindowValues

Columns = Mapping[str, npt.NDArray[Any]]

# Rows that are processed together: group number and time must fit into one 64-bit integer.
CHUNK_ROWS = 16_384
MAX_MOMENT = 2**61


@dataclass(frozen=True)
class WindowStream:
    """Maps a sorted stream to the features of its output rows; runs on executors."""

    plan: StreamPlan

    def __call__(self, batches: Iterable[tuple[pd.Series[Any], ...]]) -> Iterator[pd.DataFrame]:
        """Yield the features of one partition, row by row; zeros for rows that are not output.

        A batch has the columns `plan.input_columns`.
        """
        carried: Rows | None = None
        for batch in batches:
            columns = {
                name: _integers(name, column)
                for name, column in zip(self.plan.input_columns, batch, strict=True)
            }
            num_rows = len(columns[TIME])
            values: dict[str, Values] = {
                feature.name: np.zeros(num_rows, np.int64 if feature.type == "bigint" else float)
                for feature in self.plan.features
            }
            for chunk in _chunks(columns[TIME], self.plan.lookback_micros):
                carried = self._fill_values(columns, chunk, carried, values)
            yield pd.DataFrame(values, copy=False)

    def _fill_values(
        self, columns: Columns, chunk: slice, carried: Rows | None, values: dict[str, Values]
    ) -> Rows:
        """Fill in the values of a chunk; return its rows, which the next chunk may need."""
        rows = self._with_carried(
            {name: column[chunk] for name, column in columns.items()}, carried
        )
        output = np.flatnonzero(columns[IS_OUTPUT][chunk])
        if len(output):
            # The rows of this chunk follow the carried ones.
            num_carried = rows.num_rows - (chunk.stop - chunk.start)
            windows = WindowValues(rows, num_carried + output, self.plan)
            for feature in self.plan.features:
                values[feature.name][chunk.start + output] = windows.value(feature)
        return rows

    def _with_carried(self, chunk: Columns, carried: Rows | None) -> Rows:
        """Return the rows of a chunk, after the carried rows of its first group."""
        integers: dict[str, Ints] = {name: chunk[name] for name in self.plan.integer_columns}
        starts = chunk[GROUP_START]
        group = np.cumsum(starts, dtype=np.int64) - int(starts[0])
        if starts[0]:
            return Rows(group, integers)
        assert carried is not None, "a stream starts in the middle of a group"
        before = within_lookback(carried, self.plan, integers[TIME][0] - self.plan.lookback_micros)
        return Rows(
            np.concatenate([before.group, group]),
            {name: np.concatenate([before.columns[name], integers[name]]) for name in integers},
            before.dropped_sums,
        )


def _integers(name: str, column: pd.Series[Any]) -> npt.NDArray[Any]:
    integers = column.to_numpy()
    # A null would turn the column into floats, which are not exact.
    assert integers.dtype.kind in "bi", f"column {name} contains a null"
    return integers if integers.dtype.kind == "b" else integers.astype(np.int64, copy=False)


def _chunks(time: Ints, lookback_micros: int) -> Iterator[slice]:
    """Split a batch, so that group number and time of each chunk fit into one integer."""
    if len(time) == 0:
        return
    # Carried rows may be up to `lookback_micros` earlier.
    span = int(time.max()) - int(time.min()) + 2 * lookback_micros + 1
    size = max(1, min(CHUNK_ROWS, MAX_MOMENT // span - 2))
    for start in range(0, len(time), size):
        yield slice(start, min(start + size, len(time)))


def within_lookback(rows: Rows, plan: StreamPlan, after: int) -> Rows:
    """Return the last group's rows after a moment, and the sums of its rows before it."""
    last_group = rows.group == rows.group[-1]
    keep = last_group & (rows.time > after)
    dropped_sums = dict(rows.dropped_sums) if rows.group[-1] == 0 else {}
    dropped = last_group & ~keep
    for window in np.unique(rows.corrected_window[dropped]).tolist():
        of_window = dropped & (rows.corrected_window == window)
        for summed in plan.sums:
            if window == NO_WINDOW and summed.quantity not in ("entering", "leaving"):
                continue
            name = (summed.column, window)
            added = int(rows.columns[summed.column][of_window].sum())
            dropped_sums[name] = dropped_sums.get(name, 0) + added
    columns = {name: column[keep] for name, column in rows.columns.items()}
    return Rows(np.zeros(int(keep.sum()), dtype=np.int64), columns, dropped_sums)
