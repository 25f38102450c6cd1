"""Streams to tensors, compared with a slow reference that handles one card at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_defs.errors import FraudScoringError, InputMissing
from fraud_models.sequences.event_batch import (
    PACKED_SCHEMA,
    EventBatch,
    iter_contexts,
    pack_contexts,
)
from tests.fraud_models.conftest import COLUMNS, LIMITS, make_stream, split

Block = tuple[int, tuple[int, ...], bytes, bytes]


def reference_blocks(stream: pa.RecordBatch) -> list[Block]:
    """Return (position, rows, values, roles) per block with a target, card by card in Python."""
    frame = stream.to_pandas()
    blocks: list[Block] = []
    for _, rows in frame.groupby(["card_id", "period"], sort=True):
        for begin in range(0, len(rows), LIMITS.max_events):
            first = max(0, begin - LIMITS.warm_up_events)
            block = rows.iloc[first : begin + LIMITS.max_events]
            roles = block["role"].to_numpy().astype(np.uint8).copy()
            roles[: begin - first] = 0
            if not roles.any():
                continue
            end = int(np.flatnonzero(roles)[-1]) + 1
            values = block[list(COLUMNS)].to_numpy(dtype=np.float64).astype(np.float32)[:end]
            numbers = tuple(int(t[3:]) for t in block["transaction_id"])[:end]
            blocks.append((first, numbers, values.tobytes(), roles[:end].tobytes()))
    return sorted(blocks)


def with_column(stream: pa.RecordBatch, name: str, values: np.ndarray) -> pa.RecordBatch:
    columns = dict(zip(stream.schema.names, stream.columns, strict=True))
    return pa.RecordBatch.from_pydict({**columns, name: pa.array(values)})


def blocks_of(batch: EventBatch) -> list[Block]:
    assert batch.source is not None
    ids = np.array([int(t[3:]) for t in batch.source.column("transaction_id").to_pylist()])
    return [
        (
            int(batch.first_position[b]),
            tuple(ids[batch.rows[b, :n]].tolist()),
            batch.values[b, :n].tobytes(),
            batch.roles[b, :n].tobytes(),
        )
        for b, n in enumerate(batch.lengths)
    ]


lengths_of_contexts = st.lists(st.integers(1, 12) | st.integers(13, 70), min_size=1, max_size=20)
places_to_cut = st.lists(st.integers(0, 2000), max_size=30)


@settings(max_examples=150, deadline=None)
@given(lengths_of_contexts, places_to_cut, st.sampled_from([1, 7, 40, 128]))
def test_blocks_equal_the_reference_for_any_batches(
    lengths: list[int], cuts: list[int], events_per_batch: int
) -> None:
    stream = make_stream(lengths)
    limits = replace(LIMITS, events_per_batch=events_per_batch)
    batches = list(iter_contexts(split(stream, cuts), COLUMNS, limits))
    assert sorted(b for batch in batches for b in blocks_of(batch)) == reference_blocks(stream)
    for batch in batches:
        assert batch.values.shape[0] == 1 or batch.roles.size <= events_per_batch
        assert np.array_equal(batch.rows >= 0, batch.mask)
        assert np.isnan(batch.values[~batch.mask]).all()


@settings(max_examples=50, deadline=None)
@given(lengths_of_contexts, places_to_cut)
def test_packed_rows_equal_the_reference(lengths: list[int], cuts: list[int]) -> None:
    stream = make_stream(lengths)
    packed = list(pack_contexts(split(stream, cuts), COLUMNS, LIMITS))
    found = sorted((row["values"], row["roles"]) for p in packed for row in p.to_pylist())
    assert found == sorted((values, roles) for _, _, values, roles in reference_blocks(stream))
    for batch in packed:
        assert batch.schema == PACKED_SCHEMA
        for row in batch.to_pylist():
            roles = np.frombuffer(row["roles"], dtype=np.uint8)
            assert row["num_events"] == len(roles)
            assert (row["num_train"], row["num_validation"]) == (
                int((roles == 1).sum()),
                int((roles == 2).sum()),
            )
        unpacked = EventBatch.from_arrow(batch, len(COLUMNS))
        assert int(unpacked.mask.sum()) == sum(batch.column("num_events").to_pylist())


@settings(max_examples=50, deadline=None)
@given(lengths_of_contexts, places_to_cut)
def test_every_target_is_returned_once(lengths: list[int], cuts: list[int]) -> None:
    stream = make_stream(lengths)
    seen: list[str] = []
    for batch in iter_contexts(split(stream, cuts), COLUMNS, LIMITS):
        assert batch.source is not None
        ids = batch.source.column("transaction_id").to_pylist()
        seen += [ids[row] for row in batch.rows[batch.roles > 0]]
    frame = stream.to_pandas()
    assert sorted(seen) == sorted(frame.loc[frame["role"] > 0, "transaction_id"])


def test_a_context_without_target_is_skipped() -> None:
    stream = make_stream([10, 20])
    quiet = with_column(stream, "role", np.zeros(30, dtype=np.int32))
    assert list(iter_contexts([quiet], COLUMNS, LIMITS)) == []
    assert list(iter_contexts([], COLUMNS, LIMITS)) == []


def test_periods_of_one_card_are_separate_contexts() -> None:
    stream = make_stream([12])
    stream = with_column(stream, "period", np.repeat([7, 8], [9, 3]).astype(np.int32))
    batches = iter_contexts([stream], COLUMNS, LIMITS)
    assert sorted(n for batch in batches for n in batch.lengths.tolist()) == [3, 9]


@pytest.mark.parametrize("order", [[5, 6, 7, 0, 1, 2, 3, 4], [0, 5, 1, 6, 2, 7, 3, 4]])
def test_unsorted_contexts_are_rejected(order: list[int]) -> None:
    stream = make_stream([5, 3]).take(pa.array(order))
    with pytest.raises(FraudScoringError, match="not sorted"):
        list(iter_contexts([stream], COLUMNS, LIMITS))


def test_unsorted_events_are_rejected() -> None:
    stream = make_stream([5]).take(pa.array([0, 2, 1, 3, 4]))
    with pytest.raises(FraudScoringError, match="event_time decreases"):
        list(iter_contexts([stream], COLUMNS, LIMITS))


def test_all_missing_columns_are_listed() -> None:
    stream = make_stream([5])
    kept = [name for name in stream.schema.names if name not in ("role", "card_count_7d")]
    stream = stream.select(kept)
    with pytest.raises(InputMissing, match="role, card_count_7d"):
        list(iter_contexts([stream], COLUMNS, LIMITS))
