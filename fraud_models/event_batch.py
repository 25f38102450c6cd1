"""Streams of sorted events to padded tensors. Training and scoring share this file.

Shape legend: `B` sequences, `L` events, `F` feature columns, `C` channels, `Z` code, `N` events
laid end to end.

The input everywhere is a stream of Arrow record batches sorted by (`card_id`, `period`,
`event_time`, `transaction_id`). One (`card_id`, `period`) is one context; it may span many
batches and never two streams. `role` says what an event is for: 0 only context, 1 a target (of
training, or "score this"), 2 a target of validation.

A context longer than `max_events` is cut into blocks counted from its start; every block but the
first starts with the last `warm_up_events` of the one before, with role 0, so each target comes
out exactly once. What follows a block's last target is dropped: the model is causal. Memory is
bounded by one batch plus one block, whatever the length of a context. Nothing here calls Python
once per card or event but the loop over finished tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_defs.problems import InputMissing, Problem
from fraud_models.config import ModelConfig

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
RoleArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

CONTEXT_ONLY, TARGET, VALIDATION_TARGET = 0, 1, 2

KEY_COLUMNS = ("card_id", "period", "event_time", "transaction_id", "role")

PACKED_SCHEMA = pa.schema(
    [
        pa.field("num_events", pa.int32(), nullable=False),
        pa.field("num_train", pa.int32(), nullable=False),
        pa.field("num_validation", pa.int32(), nullable=False),
        pa.field("values", pa.binary(), nullable=False),
        pa.field("roles", pa.binary(), nullable=False),
    ]
)
# The same for Spark's `mapInArrow`.
PACKED_DDL = "num_events int, num_train int, num_validation int, `values` binary, roles binary"


@dataclass(frozen=True)
class ContextLimits:
    """How contexts are cut and grouped."""

    max_events: int
    """Events of a block."""
    warm_up_events: int
    """Events of the block before that a block starts with."""
    events_per_batch: int = 65_536
    """Most events of one padded tensor, padding included, unless a single block has more."""

    @classmethod
    def of(cls, config: ModelConfig) -> ContextLimits:
        """The limits that a model was trained with."""
        return cls(
            max_events=config.max_context_events,
            warm_up_events=config.warm_up_events,
            events_per_batch=config.optimisation.events_per_batch,
        )


@dataclass(frozen=True)
class EventBatch:
    """Sequences of similar length, padded at their end."""

    values: FloatArray
    """[B, L, F]; NaN where a value is missing and on padding."""
    roles: RoleArray
    """[B, L]; 0 on padding."""
    lengths: IntArray
    """[B] events of each sequence."""
    first_position: IntArray
    """[B] events of the context before the sequence's first one."""
    rows: IntArray
    """[B, L] row of `source`; -1 on padding. Empty [B, 0] for packed sequences."""
    source: pa.RecordBatch | None
    """The events as they came, with all their columns; unset for packed sequences."""

    @property
    def mask(self) -> BoolArray:
        """[B, L] true where there is an event."""
        return np.arange(self.values.shape[1])[None, :] < self.lengths[:, None]

    @classmethod
    def from_packed(
        cls, values: Sequence[bytes], roles: Sequence[bytes], num_features: int
    ) -> EventBatch:
        """Sequences from rows of a training snapshot (`PACKED_SCHEMA`)."""
        lengths = np.array([len(row) for row in roles], dtype=np.int64)
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        flat = np.frombuffer(b"".join(values), dtype=np.float32).reshape(-1, num_features)
        index = _padded_index(offsets[:-1], lengths)
        return cls(
            values=_gather(flat, index, np.float32(np.nan)),
            roles=_gather(np.frombuffer(b"".join(roles), dtype=np.uint8), index, np.uint8(0)),
            lengths=lengths,
            first_position=np.zeros(len(lengths), dtype=np.int64),
            rows=np.empty((len(lengths), 0), dtype=np.int64),
            source=None,
        )

    @classmethod
    def from_arrow(cls, packed: pa.RecordBatch, num_features: int) -> EventBatch:
        """Sequences from one record batch of a training snapshot (`PACKED_SCHEMA`)."""
        return cls.from_packed(
            packed.column("values").to_pylist(), packed.column("roles").to_pylist(), num_features
        )


@dataclass(frozen=True)
class _Events:
    """Events of whole or partly known contexts, laid end to end."""

    source: pa.RecordBatch
    values: FloatArray  # [N, F]
    roles: RoleArray  # [N]

    @classmethod
    def read(cls, source: pa.RecordBatch, columns: Sequence[str]) -> _Events:
        _check_columns(source.schema, columns)
        values = np.empty((source.num_rows, len(columns)), dtype=np.float32)
        for index, name in enumerate(columns):
            values[:, index] = _numbers(source.column(name))
        roles = source.column("role").cast(pa.uint8()).to_numpy(zero_copy_only=False)
        return cls(source, values, np.asarray(roles, dtype=np.uint8))

    def after(self, other: _Events | None) -> _Events:
        if other is None or other.source.num_rows == 0:
            return self
        table = pa.Table.from_batches([other.source, self.source]).combine_chunks()
        return _Events(
            source=table.to_batches(max_chunksize=table.num_rows)[0],
            values=np.concatenate([other.values, self.values]),
            roles=np.concatenate([other.roles, self.roles]),
        )

    def tail(self, first: int) -> _Events:
        return _Events(self.source.slice(first), self.values[first:].copy(), self.roles[first:])

    def context_starts(self) -> IntArray:
        """[contexts] first row of each; refuses events that are not in order."""
        card = self.source.column("card_id")
        period = np.asarray(self.source.column("period"))
        code = np.asarray(card.dictionary_encode().indices)
        changed = (code[1:] != code[:-1]) | (period[1:] != period[:-1])
        time = np.asarray(self.source.column("event_time").cast(pa.int64()))
        if np.any((time[1:] < time[:-1]) & ~changed):
            raise _unsorted("event_time falls inside a context")
        starts = np.concatenate(([0], np.flatnonzero(changed) + 1)).astype(np.int64)
        first = card.take(pa.array(starts))
        later = pc.greater(first[1:], first[:-1]).to_numpy(zero_copy_only=False)
        same = pc.equal(first[1:], first[:-1]).to_numpy(zero_copy_only=False)
        rising = period[starts][1:] > period[starts][:-1]
        if not np.all(later | (same & rising)):
            raise _unsorted("a (card_id, period) comes again or out of order")
        return starts


@dataclass(frozen=True)
class _Blocks:
    """Blocks as row ranges of `_Events`."""

    first_row: IntArray
    num_events: IntArray
    position: IntArray
    num_warm_up: IntArray

    def take(self, chosen: npt.NDArray[Any]) -> _Blocks:
        return _Blocks(
            self.first_row[chosen],
            self.num_events[chosen],
            self.position[chosen],
            self.num_warm_up[chosen],
        )


@dataclass(frozen=True)
class _Carry:
    """What the next batch goes on with: rows of the unfinished context.

    `position` is where in its context the first carried row stands; the first `num_warm_up` of
    the rows have come out already.
    """

    events: _Events | None = None
    position: int = 0
    num_warm_up: int = 0


def iter_contexts(
    batches: Iterable[pa.RecordBatch], columns: Sequence[str], limits: ContextLimits
) -> Iterator[EventBatch]:
    """Padded tensors of similar lengths from a sorted stream; contexts without target are skipped.

    Raises:
        InputMissing: columns are missing; all are named.
        Problem: the stream is not sorted.
    """
    for events, blocks in _iter_blocks(batches, columns, limits):
        order = np.argsort(-blocks.num_events, kind="stable")
        start = 0
        while start < len(order):
            longest = int(blocks.num_events[order[start]])
            count = max(1, limits.events_per_batch // longest)
            yield _padded(events, blocks.take(order[start : start + count]))
            start += count


def pack_contexts(
    batches: Iterable[pa.RecordBatch], columns: Sequence[str], limits: ContextLimits
) -> Iterator[pa.RecordBatch]:
    """Rows of a training snapshot (`PACKED_SCHEMA`): one per block that has a target.

    `values` is the raw float32 [L, F] with NaN for missing, `roles` the raw uint8 [L].

    Raises:
        InputMissing: columns are missing; all are named.
        Problem: the stream is not sorted.
    """
    for events, blocks in _iter_blocks(batches, columns, limits):
        for start in range(0, len(blocks.num_events), 1024):
            chosen = np.arange(start, min(start + 1024, len(blocks.num_events)))
            yield _packed(events, blocks.take(chosen))


def _iter_blocks(
    batches: Iterable[pa.RecordBatch], columns: Sequence[str], limits: ContextLimits
) -> Iterator[tuple[_Events, _Blocks]]:
    carry = _Carry()
    for source in _large_enough(batches, limits.events_per_batch):
        events = _Events.read(source, columns).after(carry.events)
        starts = events.context_starts()
        blocks, carry = _cut(events, starts, carry, limits)
        if len(blocks.first_row):
            yield events, blocks
    if carry.events is not None:
        num_rows = carry.events.source.num_rows
        last = _blocks_of(
            np.array([0], dtype=np.int64),
            np.array([num_rows], dtype=np.int64),
            carry,
            limits,
        )
        blocks = _with_targets(carry.events, last)
        if len(blocks.first_row):
            yield carry.events, blocks


def _large_enough(batches: Iterable[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    """Small batches joined, so that padding and fixed costs are shared by many contexts."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        waiting.append(batch)
        count += batch.num_rows
        if count >= num_rows:
            yield _joined(waiting)
            waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).combine_chunks()
    return table.to_batches(max_chunksize=table.num_rows)[0]


def _cut(
    events: _Events, starts: IntArray, carry: _Carry, limits: ContextLimits
) -> tuple[_Blocks, _Carry]:
    """Blocks that are complete, and what waits for the next batch."""
    num_rows = events.source.num_rows
    lengths = np.diff(np.append(starts, num_rows))
    alone = len(starts) == 1
    position, warm = (carry.position, carry.num_warm_up) if alone else (0, 0)
    pending = int(lengths[-1]) - warm
    num_full = pending // limits.max_events
    # A context that only fills its blocks so far still waits with its warm-up.
    lengths[-1] = warm + num_full * limits.max_events
    blocks = _blocks_of(starts, lengths, carry, limits)
    done = position + int(lengths[-1])
    kept_warm = min(limits.warm_up_events, done) if num_full else warm
    first = int(starts[-1]) + int(lengths[-1]) - kept_warm
    waiting = _Carry(events.tail(first), done - kept_warm, kept_warm)
    return _with_targets(events, blocks), waiting


def _blocks_of(
    starts: IntArray, lengths: IntArray, carry: _Carry, limits: ContextLimits
) -> _Blocks:
    """All blocks of these row ranges; the first range goes on where `carry` stopped."""
    warm = np.zeros(len(starts), dtype=np.int64)
    base = np.zeros(len(starts), dtype=np.int64)
    warm[0], base[0] = carry.num_warm_up, carry.position
    num_blocks = -(-(lengths - warm) // limits.max_events)
    owner = np.repeat(np.arange(len(starts)), num_blocks)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(num_blocks) - num_blocks, num_blocks)
    begin = base[owner] + warm[owner] + number * limits.max_events
    end = np.minimum(begin + limits.max_events, base[owner] + lengths[owner])
    warm_begin = np.maximum(begin - limits.warm_up_events, 0)
    return _Blocks(
        first_row=starts[owner] + warm_begin - base[owner],
        num_events=end - warm_begin,
        position=warm_begin,
        num_warm_up=begin - warm_begin,
    )


def _with_targets(events: _Events, blocks: _Blocks) -> _Blocks:
    """Blocks cut after their last target; those without any are left out."""
    rows = np.arange(len(events.roles))
    last_target = np.maximum.accumulate(np.where(events.roles > 0, rows, -1))
    last = last_target[blocks.first_row + blocks.num_events - 1]
    found = last >= blocks.first_row + blocks.num_warm_up
    shortened = _Blocks(
        blocks.first_row, last + 1 - blocks.first_row, blocks.position, blocks.num_warm_up
    )
    return shortened.take(found)


def _padded(events: _Events, blocks: _Blocks) -> EventBatch:
    index = _padded_index(blocks.first_row, blocks.num_events)
    roles = _gather(events.roles, index, np.uint8(0))
    roles[np.arange(index.shape[1])[None, :] < blocks.num_warm_up[:, None]] = CONTEXT_ONLY
    return EventBatch(
        values=_gather(events.values, index, np.float32(np.nan)),
        roles=roles,
        lengths=blocks.num_events,
        first_position=blocks.position,
        rows=index,
        source=events.source,
    )


def _packed(events: _Events, blocks: _Blocks) -> pa.RecordBatch:
    lengths = blocks.num_events
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    inside = np.arange(int(ends[-1])) - (ends - lengths)[owner]
    rows = blocks.first_row[owner] + inside
    roles = np.where(inside < blocks.num_warm_up[owner], CONTEXT_ONLY, events.roles[rows])
    roles = roles.astype(np.uint8)
    bytes_per_event = events.values.shape[1] * 4
    counts = [
        np.bincount(owner, weights=roles == role, minlength=len(lengths)).astype(np.int32)
        for role in (TARGET, VALIDATION_TARGET)
    ]
    columns = [
        pa.array(lengths.astype(np.int32)),
        *(pa.array(count) for count in counts),
        _binary(events.values[rows].tobytes(), ends * bytes_per_event),
        _binary(roles.tobytes(), ends),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PACKED_SCHEMA)


def _binary(content: bytes, ends: IntArray) -> pa.Array:
    offsets = np.concatenate(([0], ends)).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(content)]
    return pa.Array.from_buffers(pa.binary(), len(ends), buffers)


def _padded_index(first_row: IntArray, lengths: IntArray) -> IntArray:
    """[B, L] row of each event; -1 on padding."""
    step = np.arange(int(lengths.max()))[None, :]
    index: IntArray = np.where(step < lengths[:, None], first_row[:, None] + step, -1)
    return index


def _gather(flat: npt.NDArray[Any], index: IntArray, filler: Any) -> npt.NDArray[Any]:
    taken: npt.NDArray[Any] = flat[index]
    taken[index < 0] = filler
    return taken


def _numbers(column: pa.Array) -> FloatArray:
    """A numeric column as float32; null becomes NaN."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    numbers = column.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, dtype=np.float32)


def _check_columns(schema: pa.Schema, columns: Sequence[str]) -> None:
    missing = [name for name in (*KEY_COLUMNS, *columns) if name not in schema.names]
    if missing:
        raise InputMissing(
            f"The event stream has no column {', '.join(missing)}.",
            expected=f"the columns {', '.join((*KEY_COLUMNS, *columns))}.",
            remedy="build the features of these days again, or use a model without these columns.",
        )


def _unsorted(what: str) -> Problem:
    return Problem(
        f"The event stream is not sorted: {what}.",
        expected="rows sorted by card_id, period, event_time, transaction_id.",
        remedy="repartition by (card_id, period) and sort within partitions before this step.",
    )
