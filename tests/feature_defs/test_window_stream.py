"""The pass over a sorted stream, without Spark: cut into batches anyhow, it says the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_defs.catalogue import FEATURES
from feature_defs.definitions import CARD, MERCHANT, Entity, Feature, Function
from feature_defs.point_in_time import window_stream
from feature_defs.point_in_time.window_stream import (
    MICROS_PER_DAY,
    NO_EVENT,
    NO_WINDOW,
    StreamPlan,
    WindowStream,
)

HOUR = MICROS_PER_DAY // 24


@dataclass(frozen=True)
class Row:
    """A row of a stream: an event, or (with `corrects`) what a late label changes."""

    key: str
    time: int
    money: int
    fraud: int
    asked: bool
    corrects: int = NO_WINDOW

    @property
    def is_event(self) -> bool:
        return self.corrects == NO_WINDOW


def plan_of(entity: Entity) -> StreamPlan:
    features = tuple(f for f in FEATURES.values() if f.entity == entity)
    return StreamPlan(("key", "slice"), features)


def batch_of(rows: list[Row], plan: StreamPlan) -> pa.RecordBatch:
    sums = {
        "_events": [int(row.is_event) for row in rows],
        "_money": [row.money if row.is_event else 0 for row in rows],
        "_judged_7d": [0 if not row.is_event and row.fraud == 0 else 1 for row in rows],
        "_frauds_7d": [row.fraud for row in rows],
    }
    payload = [{"time": row.time} if row.asked else None for row in rows]
    columns = {
        "key": pa.array([row.key for row in rows]),
        "slice": pa.array([0] * len(rows), pa.int32()),
        "_time": pa.array([row.time for row in rows]),
        "_corrects": pa.array([row.corrects for row in rows], pa.int32()),
        "_last": pa.array([row.time if row.is_event else NO_EVENT for row in rows]),
        **{name: pa.array(sums[name], pa.int64()) for name in plan.sums},
        "_row": pa.array(payload, pa.struct([("time", pa.int64())])),
    }
    return pa.RecordBatch.from_pydict(columns)


def computed(batches: list[list[Row]], plan: StreamPlan) -> list[dict[str, Any]]:
    stream = WindowStream(plan)(batch_of(rows, plan) for rows in batches if rows)
    return [row for batch in stream for row in batch.to_pylist()]


def expected(rows: list[Row], plan: StreamPlan) -> Iterator[dict[str, Any]]:
    """Each asked row's windows, by looking at every row before it."""
    for place, row in enumerate(rows):
        if row.asked:
            before = [r for r in rows[: place + 1] if r.key == row.key]
            features = {f.name: value(f, row, before, plan) for f in plan.features}
            yield {"key": row.key, "time": row.time, **features}


def value(feature: Feature, row: Row, before: list[Row], plan: StreamPlan) -> Any:
    window = feature.window
    assert window is not None
    end = row.time - window.delay_days * MICROS_PER_DAY
    start = row.time - window.lookback_days * MICROS_PER_DAY
    inside = [r for r in before if r.is_event and start < r.time <= end]
    if feature.function is Function.COUNT:
        return len(inside)
    if feature.function is Function.SECONDS_SINCE_LAST:
        earlier = [r for r in inside if r is not row]
        return (row.time - earlier[-1].time) / 1e6 if earlier else None
    if feature.function is Function.MEAN:
        return sum(r.money for r in inside) / len(inside) / 1000 if inside else None
    corrections = [r for r in before if r.corrects == plan.corrected.index(window)]
    judged = len(inside) + sum(r.fraud != 0 for r in corrections)
    frauds = sum(r.fraud for r in inside) + sum(r.fraud for r in corrections)
    return frauds / judged if judged else feature.empty


@st.composite
def streams(draw: st.DrawFn, plan: StreamPlan) -> list[Row]:
    """Ties, keys of one event, gaps longer than any window, corrections of any window."""
    rows = []
    for key in "abc"[: draw(st.integers(1, 3))]:
        steps = st.sampled_from((0, 0, 1, HOUR, MICROS_PER_DAY, 7 * MICROS_PER_DAY))
        time = draw(st.integers(-(10**15), 10**15))
        for step in draw(st.lists(steps, min_size=1, max_size=40)):
            time += step
            rows.append(
                Row(
                    key,
                    time,
                    draw(st.integers(-(10**13), 10**13)),
                    draw(st.integers(0, 1)),
                    draw(st.booleans()),
                )
            )
            if plan.corrected and draw(st.booleans()):
                corrects = draw(st.integers(0, len(plan.corrected) - 1))
                rows.append(Row(key, time, 0, draw(st.integers(0, 1)), False, corrects))
    return rows


def check(data: st.DataObject, entity: Entity) -> None:
    plan = plan_of(entity)
    rows = data.draw(streams(plan))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=8)))
    batches = [rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    wanted = list(expected(rows, plan))
    assert computed(batches, plan) == wanted
    assert computed([rows], plan) == wanted


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_card_however_its_stream_is_cut(data: st.DataObject) -> None:
    check(data, CARD)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_merchant_however_its_stream_is_cut(data: st.DataObject) -> None:
    check(data, MERCHANT)


def test_a_batch_of_many_groups_and_a_long_time_is_looked_at_in_parts() -> None:
    """Group and time have to fit into one whole number."""
    plan = plan_of(CARD)
    century = 36_525 * MICROS_PER_DAY
    rows = [Row(f"{n:05d}", n % 2 * century, n, 0, asked=True) for n in range(20_000)]
    found = computed([rows], plan)
    assert [row["card_count_30d"] for row in found] == [1] * len(rows)
    assert [row["time"] for row in found] == [row.time for row in rows]
    pieces = list(window_stream._pieces(batch_of(rows, plan), plan.reach))
    assert len(pieces) > 20_000 / window_stream.PIECE_ROWS + 1


def test_what_is_kept_between_batches_lies_in_reach() -> None:
    plan = plan_of(CARD)
    rows = [Row("a", n * HOUR, 1, 0, asked=True) for n in range(31 * 24)]
    kept: list[int] = []
    original = window_stream._kept

    def watched(rows: Any, plan: StreamPlan) -> Any:
        found = original(rows, plan)
        kept.append(found.num_rows)
        return found

    window_stream._kept = watched
    try:
        computed([rows[n : n + 24] for n in range(0, len(rows), 24)], plan)
    finally:
        window_stream._kept = original
    assert max(kept) == 30 * 24
