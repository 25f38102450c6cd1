"""Split a stream of sorted events into blocks, which are row ranges.

Shapes: `N` concatenated events, `F` feature columns. See `event_batch` for the definition of a
stream and the rules of splitting. They are implemented with numpy: contexts start where the key
changes, blocks follow by arithmetic on row numbers, and rows of the last, unfinished context are
carried over to the next batch. No Python code runs per card or per event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_defs.errors import FraudScoringError, InputMissing
from fraud_models.config import ModelConfig
from fraud_models.sequences.vocabulary import Vocabulary

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
RoleArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

# The role of an event is an integer of two parts, and is stored in snapshots. Its lower two bits
# are the purpose, exactly one of these three:
CONTEXT_ONLY, TARGET, VALIDATION_TARGET = 0, 1, 2
# Two more bits are the label, set only to train a head; neither is set for an unlabelled event:
KNOWN_GENUINE, KNOWN_FRAUD = 4, 8
PURPOSE_MASK, LABEL_MASK = 3, KNOWN_GENUINE | KNOWN_FRAUD

Vocabularies = Mapping[str, Vocabulary]
NO_CATEGORIES: Vocabularies = {}

KEY_COLUMNS = ("card_id", "period", "event_time", "transaction_id", "role")


@dataclass(frozen=True)
class ContextLimits:
    """How contexts are split into blocks and blocks are grouped into batches."""

    max_events: int
    """Maximum events of a block, without warm-up."""
    warm_up_events: int
    """Events that a block repeats from the end of the previous block."""
    events_per_batch: int = 65_536
    """Maximum events of one padded tensor, padding included, unless a single block is longer."""

    @classmethod
    def from_config(cls, config: ModelConfig) -> ContextLimits:
        """Return the limits of a model's config."""
        return cls(
            max_events=config.max_context_events,
            warm_up_events=config.warm_up_events,
            events_per_batch=config.optimisation.events_per_batch,
        )


@dataclass(frozen=True)
class Events:
    """Concatenated events; the first and the last context may be incomplete."""

    source: pa.RecordBatch
    """The events with all their columns."""
    values: FloatArray
    """[N, F]; NaN where missing, the code of a category."""
    roles: RoleArray
    """[N]; see `PURPOSE_MASK` and `LABEL_MASK`."""

    @classmethod
    def read(
        cls, source: pa.RecordBatch, columns: Sequence[str], vocabularies: Vocabularies
    ) -> Events:
        """Return the events of a record batch; `vocabularies` has those of categorical columns.

        Raises:
            InputMissing: columns are missing; rebuild the features of these days.
            FraudScoringError: a column is text without a vocabulary, or has a vocabulary and is no
                text; the message says what to change.
        """
        _check_columns(source.schema, columns)
        values = np.empty((source.num_rows, len(columns)), dtype=np.float32)
        for index, name in enumerate(columns):
            column = source.column(name)
            if name in vocabularies:
                values[:, index] = vocabularies[name].codes(column)
            else:
                values[:, index] = _as_float32(name, column)
        roles = source.column("role").cast(pa.uint8()).to_numpy(zero_copy_only=False)
        return cls(source, values, np.asarray(roles, dtype=np.uint8))

    def appended_to(self, other: Events | None) -> Events:
        """Return the events of `other` followed by these."""
        if other is None or other.source.num_rows == 0:
            return self
        table = pa.Table.from_batches([other.source, self.source]).combine_chunks()
        return Events(
            source=table.to_batches(max_chunksize=table.num_rows)[0],
            values=np.concatenate([other.values, self.values]),
            roles=np.concatenate([other.roles, self.roles]),
        )

    def tail(self, first: int) -> Events:
        """Return the events from row `first` on."""
        return Events(self.source.slice(first), self.values[first:].copy(), self.roles[first:])

    def context_starts(self) -> IntArray:
        """Return the first row of each context.

        Raises:
            FraudScoringError: the events are not sorted; sort the stream within partitions.
        """
        card = self.source.column("card_id")
        period = np.asarray(self.source.column("period"))
        code = np.asarray(card.dictionary_encode().indices)
        changed = (code[1:] != code[:-1]) | (period[1:] != period[:-1])
        time = np.asarray(self.source.column("event_time").cast(pa.int64()))
        if np.any((time[1:] < time[:-1]) & ~changed):
            raise _unsorted("event_time decreases within a context")
        starts = np.concatenate(([0], np.flatnonzero(changed) + 1)).astype(np.int64)
        first = card.take(pa.array(starts))
        later = pc.greater(first[1:], first[:-1]).to_numpy(zero_copy_only=False)
        same = pc.equal(first[1:], first[:-1]).to_numpy(zero_copy_only=False)
        rising = period[starts][1:] > period[starts][:-1]
        if not np.all(later | (same & rising)):
            raise _unsorted("a (card_id, period) is repeated or out of order")
        return starts


@dataclass(frozen=True)
class Blocks:
    """Blocks as row ranges of `Events`."""

    first_row: IntArray
    """[blocks] row of the first event, warm-up included."""
    num_events: IntArray
    """[blocks] number of events, warm-up included."""
    position: IntArray
    """[blocks] number of earlier events in the context, before the first one."""
    num_warm_up: IntArray
    """[blocks] number of events at the start that belong to the previous block."""

    def take(self, selected: npt.NDArray[Any]) -> Blocks:
        """Return some of the blocks, by index or mask."""
        return Blocks(
            self.first_row[selected],
            self.num_events[selected],
            self.position[selected],
            self.num_warm_up[selected],
        )


@dataclass(frozen=True)
class _Carry:
    """Rows of the unfinished context, carried over to the next batch."""

    events: Events | None = None
    position: int = 0
    """Position in its context of the first carried row."""
    num_warm_up: int = 0
    """Number of carried rows, at the start, that earlier blocks contain already."""


def iter_blocks(
    batches: Iterable[pa.RecordBatch],
    columns: Sequence[str],
    limits: ContextLimits,
    vocabularies: Vocabularies = NO_CATEGORIES,
) -> Iterator[tuple[Events, Blocks]]:
    """Yield the blocks that have a target, with the events that they index.

    Raises:
        InputMissing: columns are missing (the message lists all of them); rebuild the features.
        FraudScoringError: the stream is not sorted; sort it within partitions.
    """
    carry = _Carry()
    for source in _merge_small_batches(batches, limits.events_per_batch):
        events = Events.read(source, columns, vocabularies).appended_to(carry.events)
        starts = events.context_starts()
        blocks, carry = _complete_blocks(events, starts, carry, limits)
        if len(blocks.first_row):
            yield events, blocks
    if carry.events is not None:
        num_rows = carry.events.source.num_rows
        last = _split_into_blocks(
            np.array([0], dtype=np.int64),
            np.array([num_rows], dtype=np.int64),
            carry,
            limits,
        )
        blocks = _trim_to_targets(carry.events, last)
        if len(blocks.first_row):
            yield carry.events, blocks


def _merge_small_batches(
    batches: Iterable[pa.RecordBatch], num_rows: int
) -> Iterator[pa.RecordBatch]:
    """Merge small batches, so that many contexts share padding and fixed costs."""
    pending: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        if batch.num_rows == 0:
            continue
        pending.append(batch)
        count += batch.num_rows
        if count >= num_rows:
            yield _concat(pending)
            pending, count = [], 0
    if pending:
        yield _concat(pending)


def _concat(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches).combine_chunks()
    return table.to_batches(max_chunksize=table.num_rows)[0]


def _complete_blocks(
    events: Events, starts: IntArray, carry: _Carry, limits: ContextLimits
) -> tuple[Blocks, _Carry]:
    """Return the blocks that are complete, and the rows to carry over to the next batch."""
    num_rows = events.source.num_rows
    lengths = np.diff(np.append(starts, num_rows))
    is_carried = len(starts) == 1
    position, warm = (carry.position, carry.num_warm_up) if is_carried else (0, 0)
    pending = int(lengths[-1]) - warm
    num_full = pending // limits.max_events
    # The last context may continue in the next batch, so its last rows are carried as warm-up.
    lengths[-1] = warm + num_full * limits.max_events
    blocks = _split_into_blocks(starts, lengths, carry, limits)
    done = position + int(lengths[-1])
    kept_warm = min(limits.warm_up_events, done) if num_full else warm
    first = int(starts[-1]) + int(lengths[-1]) - kept_warm
    next_carry = _Carry(events.tail(first), done - kept_warm, kept_warm)
    return _trim_to_targets(events, blocks), next_carry


def _split_into_blocks(
    starts: IntArray, lengths: IntArray, carry: _Carry, limits: ContextLimits
) -> Blocks:
    """Return all blocks of these row ranges; the first range continues the carried context."""
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


def _trim_to_targets(events: Events, blocks: Blocks) -> Blocks:
    """Cut blocks after their last target; drop blocks without a target."""
    rows = np.arange(len(events.roles))
    last_target = np.maximum.accumulate(np.where(events.roles > 0, rows, -1))
    last = last_target[blocks.first_row + blocks.num_events - 1]
    has_target = last >= blocks.first_row + blocks.num_warm_up
    trimmed = Blocks(
        blocks.first_row, last + 1 - blocks.first_row, blocks.position, blocks.num_warm_up
    )
    return trimmed.take(has_target)


def _as_float32(name: str, column: pa.Array) -> FloatArray:
    """Return a numeric column as float32; null becomes NaN."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        raise FraudScoringError(
            f"The column {name} is text, but no vocabulary for it is given.",
            expected="numbers, or a vocabulary that was fitted on the training events.",
            remedy="pass the vocabularies of the model's encoding.",
        )
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
            remedy="rebuild the features of these days, or use a model without these columns.",
        )


def _unsorted(fault: str) -> FraudScoringError:
    return FraudScoringError(
        f"The event stream is not sorted: {fault}.",
        expected="rows sorted by card_id, period, event_time, transaction_id.",
        remedy="repartition by (card_id, period) and sort within partitions before this step.",
    )
