"""Streams of sorted events to padded tensors. Training and scoring share this file.

Shape legend: `B` sequences, `L` events, `F` feature columns, `C` channels, `Z` code, `N` events
laid end to end.

The input everywhere is a stream of Arrow record batches sorted by (`card_id`, `period`,
`event_time`, `transaction_id`). One (`card_id`, `period`) is one context; it may span many
batches and never two streams. `role` says what an event is for: 0 only context, 1 a target (of
training, or "score this"), 2 a target of validation. In the training of a head it also says what
the label is: 4 more for known to be genuine, 8 more for a known fraud.

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

from fraud_models.sequences.context_blocks import (
    CONTEXT_ONLY,
    KNOWN_FRAUD,
    KNOWN_GENUINE,
    LABELLED,
    PURPOSE,
    TARGET,
    VALIDATION_TARGET,
    Blocks,
    BoolArray,
    ContextLimits,
    Events,
    FloatArray,
    IntArray,
    RoleArray,
    iter_blocks,
)

__all__ = [
    "CONTEXT_ONLY",
    "KNOWN_FRAUD",
    "KNOWN_GENUINE",
    "LABELLED",
    "PACKED_DDL",
    "PACKED_SCHEMA",
    "PURPOSE",
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


def iter_contexts(
    batches: Iterable[pa.RecordBatch], columns: Sequence[str], limits: ContextLimits
) -> Iterator[EventBatch]:
    """Padded tensors of similar lengths from a sorted stream; contexts without target are skipped.

    Raises:
        InputMissing: columns are missing; all are named.
        FraudScoringError: the stream is not sorted.
    """
    for events, blocks in iter_blocks(batches, columns, limits):
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
        FraudScoringError: the stream is not sorted.
    """
    for events, blocks in iter_blocks(batches, columns, limits):
        for start in range(0, len(blocks.num_events), 1024):
            chosen = np.arange(start, min(start + 1024, len(blocks.num_events)))
            yield _packed(events, blocks.take(chosen))


def _padded(events: Events, blocks: Blocks) -> EventBatch:
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


def _packed(events: Events, blocks: Blocks) -> pa.RecordBatch:
    lengths = blocks.num_events
    ends = np.cumsum(lengths)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    inside = np.arange(int(ends[-1])) - (ends - lengths)[owner]
    rows = blocks.first_row[owner] + inside
    roles = np.where(inside < blocks.num_warm_up[owner], CONTEXT_ONLY, events.roles[rows])
    roles = roles.astype(np.uint8)
    bytes_per_event = events.values.shape[1] * 4
    counts = [
        np.bincount(owner, weights=roles & PURPOSE == role, minlength=len(lengths)).astype(np.int32)
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
