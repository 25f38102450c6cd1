"""Convert streams of sorted events to padded tensors. Training and scoring share this module.

Shape legend: `B` sequences, `L` events, `F` feature columns, `C` channels, `Z` code, `N`
concatenated events.

The input is always a stream of Arrow record batches sorted by (`card_id`, `period`, `event_time`,
`transaction_id`). One (`card_id`, `period`) is one context; it may span several batches but never
two streams. `role` is the purpose of an event: 0 context only, 1 a target (of training, or to be
scored), 2 a target of validation. To train a head, the role also contains the label: plus 4 for a
known genuine event, plus 8 for a known fraud.

A context longer than `max_events` is split into blocks counted from its start. Every block except
the first starts with the last `warm_up_events` of the previous block, with role 0, so that each
target is returned exactly once. Events after a block's last target are dropped, because the model
is causal. Memory is bounded by one batch plus one block, whatever the length of a context. Except
for the loop over finished tensors, no Python code runs per card or per event.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraud_models.sequences.context_blocks import (
    CONTEXT_ONLY,
    KNOWN_FRAUD,
    KNOWN_GENUINE,
    LABEL_MASK,
    NO_CATEGORIES,
    PURPOSE_MASK,
    TARGET,
    VALIDATION_TARGET,
    Blocks,
    BoolArray,
    ContextLimits,
    Events,
    FloatArray,
    IntArray,
    RoleArray,
    Vocabularies,
    iter_blocks,
)

__all__ = [
    "CONTEXT_ONLY",
    "KNOWN_FRAUD",
    "KNOWN_GENUINE",
    "LABEL_MASK",
    "PACKED_DDL",
    "PACKED_SCHEMA",
    "PURPOSE_MASK",
    "TARGET",
    "VALIDATION_TARGET",
    "BoolArray",
    "ContextLimits",
    "EventBatch",
    "RoleArray",
    "iter_contexts",
    "pack_contexts",
]

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
class EventBatch:
    """Sequences of similar length, padded at their end."""

    values: FloatArray
    """[B, L, F]; NaN where a value is missing and on padding; a category is its code."""
    roles: RoleArray
    """[B, L]; 0 on padding."""
    lengths: IntArray
    """[B] number of events of each sequence."""
    first_position: IntArray
    """[B] number of earlier events in the context, before the sequence's first one."""
    rows: IntArray
    """[B, L] row in `source`; -1 on padding. Empty [B, 0] for packed sequences."""
    source: pa.RecordBatch | None
    """The events as read, with all their columns; unset for packed sequences."""

    @property
    def mask(self) -> BoolArray:
        """[B, L] true for an event, false for padding."""
        return np.arange(self.values.shape[1])[None, :] < self.lengths[:, None]

    @classmethod
    def from_packed(
        cls, values: Sequence[bytes], roles: Sequence[bytes], num_features: int
    ) -> EventBatch:
        """Return the sequences of rows of a training snapshot (`PACKED_SCHEMA`)."""
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
        """Return the sequences of one record batch of a training snapshot (`PACKED_SCHEMA`)."""
        return cls.from_packed(
            packed.column("values").to_pylist(), packed.column("roles").to_pylist(), num_features
        )


def iter_contexts(
    batches: Iterable[pa.RecordBatch],
    columns: Sequence[str],
    limits: ContextLimits,
    vocabularies: Vocabularies = NO_CATEGORIES,
) -> Iterator[EventBatch]:
    """Yield padded batches of blocks of similar length from a sorted stream.

    Contexts without a target are skipped. Columns of text need a vocabulary; their values are codes
    in it.

    Raises:
        InputMissing: columns are missing (the message lists all of them); rebuild the features.
        FraudScoringError: the stream is not sorted, so sort it within partitions; or a column of
            text has no vocabulary.
    """
    for events, blocks in iter_blocks(batches, columns, limits, vocabularies):
        order = np.argsort(-blocks.num_events, kind="stable")
        start = 0
        while start < len(order):
            longest = int(blocks.num_events[order[start]])
            count = max(1, limits.events_per_batch // longest)
            yield _pad(events, blocks.take(order[start : start + count]))
            start += count


def pack_contexts(
    batches: Iterable[pa.RecordBatch],
    columns: Sequence[str],
    limits: ContextLimits,
    vocabularies: Vocabularies = NO_CATEGORIES,
) -> Iterator[pa.RecordBatch]:
    """Yield rows of a training snapshot (`PACKED_SCHEMA`), one per block that has a target.

    `values` holds the raw bytes of float32 [L, F], NaN where missing; `roles` those of uint8 [L].
    Columns of text need a vocabulary; their values are codes in it.

    Raises:
        InputMissing: columns are missing (the message lists all of them); rebuild the features.
        FraudScoringError: the stream is not sorted, so sort it within partitions; or a column of
            text has no vocabulary.
    """
    for events, blocks in iter_blocks(batches, columns, limits, vocabularies):
        for start in range(0, len(blocks.num_events), 1024):
            part = np.arange(start, min(start + 1024, len(blocks.num_events)))
            yield _pack(events, blocks.take(part))


def _pad(events: Events, blocks: Blocks) -> EventBatch:
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


def _pack(events: Events, blocks: Blocks) -> pa.RecordBatch:
    lengths = blocks.num_events
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    inside = np.arange(int(ends[-1])) - (ends - lengths)[owner]
    rows = blocks.first_row[owner] + inside
    roles = np.where(inside < blocks.num_warm_up[owner], CONTEXT_ONLY, events.roles[rows])
    roles = roles.astype(np.uint8)
    bytes_per_event = events.values.shape[1] * 4
    counts = [
        np.bincount(owner, weights=roles & PURPOSE_MASK == role, minlength=len(lengths)).astype(
            np.int32
        )
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
    """Return the row of each event [B, L]; -1 on padding."""
    step = np.arange(int(lengths.max()))[None, :]
    index: IntArray = np.where(step < lengths[:, None], first_row[:, None] + step, -1)
    return index


def _gather(flat: npt.NDArray[Any], index: IntArray, fill_value: Any) -> npt.NDArray[Any]:
    padded: npt.NDArray[Any] = flat[index]
    padded[index < 0] = fill_value
    return padded
