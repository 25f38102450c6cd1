"""A stream of sorted events cut into blocks: row ranges, found with numpy.

Shapes: `N` events laid end to end, `F` feature columns. See `event_batch` for what a stream is
and for the rules; here is how they are kept: key boundaries by comparing neighbours, blocks by
arithmetic on their numbers, and the rows of the last, unfinished context carried to the next
batch. Nothing calls Python once per card or event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_defs.errors import FraudScoringError, InputMissing
from fraud_models.config import ModelConfig

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
RoleArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

# A role is what an event is for (two bits), and what is known of it (two more, for a head only).
CONTEXT_ONLY, TARGET, VALIDATION_TARGET = 0, 1, 2
KNOWN_GENUINE, KNOWN_FRAUD = 4, 8
PURPOSE, LABELLED = 3, KNOWN_GENUINE | KNOWN_FRAUD

KEY_COLUMNS = ("card_id", "period", "event_time", "transaction_id", "role")


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
class Events:
    """Events of whole or partly known contexts, laid end to end."""

    source: pa.RecordBatch
    """All their columns."""
    values: FloatArray
    """[N, F]; NaN where missing."""
    roles: RoleArray
    """[N]"""

    @classmethod
    def read(cls, source: pa.RecordBatch, columns: Sequence[str]) -> Events:
        """The events of a record batch; refuses one without all columns."""
        _check_columns(source.schema, columns)
        values = np.empty((source.num_rows, len(columns)), dtype=np.float32)
        for index, name in enumerate(columns):
            values[:, index] = _numbers(source.column(name))
        roles = source.column("role").cast(pa.uint8()).to_numpy(zero_copy_only=False)
        return cls(source, values, np.asarray(roles, dtype=np.uint8))

    def after(self, other: Events | None) -> Events:
        """These events behind others."""
        if other is None or other.source.num_rows == 0:
            return self
        table = pa.Table.from_batches([other.source, self.source]).combine_chunks()
        return Events(
            source=table.to_batches(max_chunksize=table.num_rows)[0],
            values=np.concatenate([other.values, self.values]),
            roles=np.concatenate([other.roles, self.roles]),
        )

    def tail(self, first: int) -> Events:
        """The events from a row on."""
        return Events(self.source.slice(first), self.values[first:].copy(), self.roles[first:])

    def context_starts(self) -> IntArray:
        """First row of each context; refuses events that are not in order."""
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
class Blocks:
    """Blocks as row ranges of `Events`."""

    first_row: IntArray
    """Row of the first event, warm-up included."""
    num_events: IntArray
    """Events, warm-up included."""
    position: IntArray
    """Events of the context before the first one."""
    num_warm_up: IntArray
    """Events at the start that belong to the block before."""

    def take(self, chosen: npt.NDArray[Any]) -> Blocks:
        """Some of the blocks, by index or mask."""
        return Blocks(
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

    events: Events | None = None
    position: int = 0
    num_warm_up: int = 0


def iter_blocks(
    batches: Iterable[pa.RecordBatch], columns: Sequence[str], limits: ContextLimits
) -> Iterator[tuple[Events, Blocks]]:
    """Blocks that have a target, with the events that they are ranges of.

    Raises:
        InputMissing: columns are missing; all are named.
        FraudScoringError: the stream is not sorted.
    """
    carry = _Carry()
    for source in _large_enough(batches, limits.events_per_batch):
        events = Events.read(source, columns).after(carry.events)
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
    events: Events, starts: IntArray, carry: _Carry, limits: ContextLimits
) -> tuple[Blocks, _Carry]:
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


def _blocks_of(starts: IntArray, lengths: IntArray, carry: _Carry, limits: ContextLimits) -> Blocks:
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
    return Blocks(
        first_row=starts[owner] + warm_begin - base[owner],
        num_events=end - warm_begin,
        position=warm_begin,
        num_warm_up=begin - warm_begin,
    )


def _with_targets(events: Events, blocks: Blocks) -> Blocks:
    """Blocks cut after their last target; those without any are left out."""
    rows = np.arange(len(events.roles))
    last_target = np.maximum.accumulate(np.where(events.roles > 0, rows, -1))
    last = last_target[blocks.first_row + blocks.num_events - 1]
    found = last >= blocks.first_row + blocks.num_warm_up
    shortened = Blocks(
        blocks.first_row, last + 1 - blocks.first_row, blocks.position, blocks.num_warm_up
    )
    return shortened.take(found)


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


def _unsorted(what: str) -> FraudScoringError:
    return FraudScoringError(
        f"The event stream is not sorted: {what}.",
        expected="rows sorted by card_id, period, event_time, transaction_id.",
        remedy="repartition by (card_id, period) and sort within partitions before this step.",
    )
