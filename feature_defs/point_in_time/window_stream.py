"""Windows over a sorted stream: prefix sums in Arrow batches, no Spark and no call per key.

A stream holds the events of one entity, sorted by key and slice (its group), time and order. Each
row adds whole numbers to running sums; a window's sum is the difference of the running sum at its
two ends, which one binary search finds for all asked rows of a batch. Differences of whole numbers
are exact, so where a batch, a partition or the stream itself begins changes no bit.

Between batches only the rows of the last group that its coming windows can still reach are kept:
memory follows the events of a group inside the lookback, and a busy key is cut into slices, each a
group (`hot_keys.py`).

Shapes: `N` rows of a piece with those carried into it, `A` asked rows, `C` corrected windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_defs.definitions import Feature, Function, Window
from feature_defs.sources import MONEY_SCALE

MICROS_PER_SECOND = 1_000_000
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
MINOR_UNITS = 10**MONEY_SCALE

# Columns of a stream beside those of its group and its sums.
TIME, CORRECTS, LAST, ROW = "_time", "_corrects", "_last", "_row"
EVENTS, MONEY = "_events", "_money"
# A row that corrects no window, and a row that is no event.
NO_WINDOW, NO_EVENT = -1, -(2**61)
# Rows looked at together; their groups and times have to fit into one whole number.
PIECE_ROWS = 16_384
LARGEST = 2**61

Whole = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def judged(delay_days: int) -> str:
    """Column that counts events whose label was known `delay_days` after them."""
    return f"_judged_{delay_days}d"


def frauds(delay_days: int) -> str:
    """Column that counts events that were then known to be frauds."""
    return f"_frauds_{delay_days}d"


@dataclass(frozen=True)
class StreamPlan:
    """What a stream's columns are, and what is made of them."""

    group: tuple[str, ...]
    features: tuple[Feature, ...]

    @property
    def corrected(self) -> tuple[Window, ...]:
        """Windows over labels: a label that comes late corrects them, by their place in here."""
        found = {f.window for f in self.features if f.window and f.function is Function.FRAUD_RATE}
        return tuple(sorted(found, key=lambda w: (w.delay_days, w.length_days)))

    @property
    def sums(self) -> tuple[str, ...]:
        """Columns that are summed."""
        delays = sorted({window.delay_days for window in self.corrected})
        money = [MONEY] if any(f.function is Function.MEAN for f in self.features) else []
        labels = [name(delay) for delay in delays for name in (judged, frauds)]
        return (EVENTS, *money, *labels)

    @property
    def reach(self) -> int:
        """Microseconds before a row that its windows can reach."""
        return max(f.lookback_days for f in self.features) * MICROS_PER_DAY


@dataclass
class _Rows:
    """Rows in order; `group` counts groups from 0, which is the carried one if there is one."""

    group: Whole
    time: Whole
    corrects: Whole
    last: Whole
    sums: dict[str, Whole]
    # What rows of group 0 that are not kept any more have corrected: [C] by summed column.
    settled: dict[str, Whole] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class WindowStream:
    """Maps a sorted stream to its asked rows with their features; runs on executors."""

    plan: StreamPlan

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Asked rows of one partition, in order: the key, the row's own columns, the features."""
        carried: _Rows | None = None
        key: tuple[object, ...] | None = None
        for batch in batches:
            for piece in _pieces(batch, self.plan.reach):
                rows = self._read(piece, carried, key)
                asked = piece.column(ROW).is_valid()
                # Rows of this piece come after the carried ones.
                at = np.flatnonzero(asked.to_numpy(zero_copy_only=False))
                at += rows.num_rows - piece.num_rows
                if len(at):
                    yield self._answer(piece, asked, _Windows(rows, at, self.plan))
                carried = _kept(rows, self.plan)
                key = tuple(piece.column(name)[-1].as_py() for name in self.plan.group)

    def _read(
        self, piece: pa.RecordBatch, carried: _Rows | None, key: tuple[object, ...] | None
    ) -> _Rows:
        starts = np.zeros(piece.num_rows, dtype=bool)
        for name in self.plan.group:
            column = piece.column(name)
            differs = pc.not_equal(column.slice(1), column.slice(0, len(column) - 1))
            starts[1:] |= differs.to_numpy(zero_copy_only=False)
        first = tuple(piece.column(name)[0].as_py() for name in self.plan.group)
        starts[0] = key is not None and first != key
        rows = _Rows(
            np.cumsum(starts),
            _numbers(piece, TIME),
            _numbers(piece, CORRECTS),
            _numbers(piece, LAST),
            {name: _numbers(piece, name) for name in self.plan.sums},
        )
        if carried is None:
            return rows
        return _Rows(
            np.concatenate([carried.group, rows.group]),
            np.concatenate([carried.time, rows.time]),
            np.concatenate([carried.corrects, rows.corrects]),
            np.concatenate([carried.last, rows.last]),
            {n: np.concatenate([carried.sums[n], rows.sums[n]]) for n in self.plan.sums},
            carried.settled,
        )

    def _answer(
        self, piece: pa.RecordBatch, asked: pa.BooleanArray, windows: _Windows
    ) -> pa.RecordBatch:
        key = self.plan.group[0]
        row = piece.column(ROW).filter(asked)
        names = [field.name for field in row.type]
        values = [windows.value(feature) for feature in self.plan.features]
        return pa.RecordBatch.from_arrays(
            [piece.column(key).filter(asked), *row.flatten(), *values],
            names=[key, *names, *(feature.name for feature in self.plan.features)],
        )


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


def _kept(rows: _Rows, plan: StreamPlan) -> _Rows:
    """Rows of the last group that windows of rows to come can reach."""
    last_group = rows.group == rows.group[-1]
    keep = last_group & (rows.time > rows.time[-1] - plan.reach)
    gone = last_group & ~keep & (rows.corrects != NO_WINDOW)
    settled = rows.settled if rows.group[-1] == 0 else {}
    if gone.any():
        size = len(plan.corrected)
        settled = {
            name: settled.get(name, np.zeros(size, dtype=np.int64))
            + _sum_by(rows.corrects[gone], column[gone], size)
            for name, column in rows.sums.items()
        }
    return _Rows(
        np.zeros(int(keep.sum()), dtype=np.int64),
        rows.time[keep],
        rows.corrects[keep],
        rows.last[keep],
        {name: column[keep] for name, column in rows.sums.items()},
        settled,
    )


def _sum_by(place: Whole, values: Whole, size: int) -> Whole:
    """Exact sums of values by place, [size]."""
    total = np.zeros(size, dtype=np.int64)
    np.add.at(total, place, values)
    return total


class _Windows:
    """The windows of the asked rows `at` [A] among rows [N]."""

    def __init__(self, rows: _Rows, at: npt.NDArray[np.intp], plan: StreamPlan) -> None:
        self.rows, self.at, self.plan = rows, at, plan
        offset = rows.time - rows.time.min()
        # A window's start never reaches into the group before.
        self.moment = rows.group * (offset.max() + plan.reach + 1) + offset
        self.events = rows.corrects == NO_WINDOW
        self.correcting = not self.events.all()
        self._ends: dict[int, npt.NDArray[np.intp]] = {}
        self._running: dict[str, Whole] = {}

    def value(self, feature: Feature) -> pa.Array:
        """A feature's values, [A]."""
        assert feature.window is not None
        if feature.function is Function.SECONDS_SINCE_LAST:
            return self._seconds_since_last(feature.window)
        if feature.function is Function.COUNT:
            return pa.array(self._sum(EVENTS, feature.window))
        if feature.function is Function.MEAN:
            number_of, total_of, scale = EVENTS, MONEY, MINOR_UNITS
        else:
            assert feature.function is Function.FRAUD_RATE
            (number_of, total_of), scale = _label_columns(feature.window), 1
        number = self._sum(number_of, feature.window)
        total = self._sum(total_of, feature.window).astype(np.float64)
        empty = number == 0
        value = total / np.where(empty, 1, number) / scale
        if feature.empty is not None:
            return pa.array(np.where(empty, feature.empty, value))
        return pa.array(value, mask=empty)

    def _seconds_since_last(self, window: Window) -> pa.Array:
        # Times of events only grow within a group, so the largest before a row is the last.
        before = np.maximum.accumulate(
            np.where(self.rows.last == NO_EVENT, NO_EVENT, self._place(self.rows.last))
        )
        there = self.at > 0
        gap = self.moment[self.at] - np.where(there, before[self.at - 1], NO_EVENT)
        inside = there & (gap < window.length_days * MICROS_PER_DAY)
        return pa.array(gap.astype(np.float64) / MICROS_PER_SECOND, mask=~inside)

    def _place(self, time: Whole) -> Whole:
        """Moments of the same groups at other times."""
        moved: Whole = self.moment + (time - self.rows.time)
        return moved

    def _sum(self, name: str, window: Window) -> Whole:
        """Sums of a column over a window, [A]."""
        running = self._running_sum(name)
        last = self._end(window.delay_days)
        total: Whole = running[last] - running[self._end(window.lookback_days)]
        if window in self.plan.corrected and name in _label_columns(window):
            total = total + self._corrections(name, window)
        return total

    def _end(self, days_before: int) -> npt.NDArray[np.intp]:
        """How many rows lie at or before the moment so many days before each asked row, [A]."""
        if days_before == 0:
            # Events of one instant are in order, and the asked one is the last of its window.
            return self.at + 1
        if days_before not in self._ends:
            moments = self.moment[self.at] - days_before * MICROS_PER_DAY
            self._ends[days_before] = np.searchsorted(self.moment, moments, side="right")
        return self._ends[days_before]

    def _running_sum(self, name: str) -> Whole:
        """Sums of the events before each row, and of all, [N + 1]."""
        if name not in self._running:
            column = self.rows.sums[name]
            if self.correcting:
                column = np.where(self.events, column, 0)
            self._running[name] = _running(column)
        return self._running[name]

    def _corrections(self, name: str, window: Window) -> Whole | int:
        """What labels that came late have changed in a window by the asked rows, [A]."""
        settled = self.rows.settled.get(name)
        if not self.correcting and settled is None:
            return 0
        place = self.plan.corrected.index(window)
        running = _running(np.where(self.rows.corrects == place, self.rows.sums[name], 0))
        group = self.rows.group[self.at]
        begins = np.searchsorted(self.rows.group, group, side="left")
        changed: Whole = running[self.at] - running[begins]
        if settled is not None:
            changed = changed + np.where(group == 0, settled[place], 0)
        return changed


def _running(column: Whole) -> Whole:
    total: Whole = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(column)])
    return total


def _label_columns(window: Window) -> tuple[str, str]:
    return judged(window.delay_days), frauds(window.delay_days)
