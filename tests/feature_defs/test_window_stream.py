"""The pass over a sorted stream, without Spark: cut into batches anyhow, it says the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from by_hand import of_amounts
from every_function import EVERY_FUNCTION
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_defs.feature import CARD, MERCHANT, Entity, Feature, Function
from feature_defs.point_in_time import window_stream
from feature_defs.point_in_time.stream_plan import (
    ASKED,
    CORRECTS,
    LAST,
    LIMB_BITS,
    MICROS_PER_DAY,
    NO_EVENT,
    NO_GREATEST,
    NO_LEAST,
    NO_WINDOW,
    START,
    TIME,
    StreamPlan,
    Sum,
)
from feature_defs.point_in_time.window_stream import WindowStream

Batch = tuple["pd.Series[Any]", ...]
HOUR = MICROS_PER_DAY // 24


@dataclass(frozen=True)
class Row:
    """A row of a stream: an event, or (with `corrects`) what a late label changes."""

    key: str
    time: int
    money: int
    judged: int
    fraud: int
    asked: bool
    corrects: int = NO_WINDOW
    value: str = "x"

    @property
    def is_event(self) -> bool:
        return self.corrects == NO_WINDOW


def plan_of(entity: Entity) -> StreamPlan:
    features = tuple(f for f in EVERY_FUNCTION.values() if f.entity == entity)
    return StreamPlan(("key",), "slice", features)


def added(summed: Sum, row: Row, rows: list[Row], plan: StreamPlan) -> int:
    """What a row adds to a sum: here conditions ask whether amounts are even."""
    if summed.what in ("judged", "frauds"):
        mine = row.is_event or plan.corrected[row.corrects].delay_days == summed.num_days
        return (row.judged if summed.what == "judged" else row.fraud) if mine else 0
    if not row.is_event or not counts(row, summed):
        return 0
    if summed.what in ("begun", "ended"):
        alike = [r for r in rows if r.is_event and (r.key, r.value) == (row.key, row.value)]
        place = next(n for n, r in enumerate(alike) if r is row)
        other = place + (1 if summed.what == "ended" else -1)
        assert summed.num_days is not None
        near = 0 <= other < len(alike) and (
            abs(alike[other].time - row.time) < summed.num_days * MICROS_PER_DAY
        )
        return int(not near)
    high, low = row.money >> LIMB_BITS, row.money & ((1 << LIMB_BITS) - 1)
    return {
        "events": 1,
        "money": row.money,
        "square_high": high * high,
        "square_middle": 2 * high * low,
        "square_low": low * low,
    }[summed.what]


def counts(row: Row, summed: Sum | Feature) -> bool:
    return summed.where is None or row.money % 2 == 0


def batch_of(part: list[Row], starts: list[bool], rows: list[Row], plan: StreamPlan) -> Batch:
    def whole(value: Callable[[Row], int]) -> pd.Series[Any]:
        return pd.Series([value(row) for row in part], dtype="int64")

    columns = {
        START: pd.Series(starts, dtype="bool"),
        ASKED: pd.Series([row.asked for row in part], dtype="bool"),
        TIME: whole(lambda row: row.time),
        CORRECTS: whole(lambda row: row.corrects).astype("int32"),
        LAST: whole(lambda row: row.time if row.is_event else NO_EVENT),
        "_least_amount": whole(lambda row: row.money if row.is_event else NO_LEAST),
        "_greatest_amount": whole(lambda row: row.money if row.is_event else NO_GREATEST),
    }
    for summed in plan.sums:
        columns[summed.column] = whole(lambda row, s=summed: added(s, row, rows, plan))  # type: ignore[misc]
    return tuple(columns[name] for name in plan.read)


def batches_of(parts: list[list[Row]], plan: StreamPlan) -> Iterator[Batch]:
    rows = [row for part in parts for row in part]
    keys = [row.key for row in rows]
    starts = [key != before for key, before in zip(keys, [None, *keys], strict=False)]
    place = 0
    for part in parts:
        yield batch_of(part, starts[place : place + len(part)], rows, plan)
        place += len(part)


def computed(parts: list[list[Row]], plan: StreamPlan) -> list[dict[str, Any]]:
    found = [frame for frame in WindowStream(plan)(batches_of(parts, plan))]
    assert [len(frame) for frame in found] == [len(part) for part in parts]
    values = [
        {name: None if value != value else value for name, value in row.items()}
        for frame in found
        for row in frame.to_dict("records")
    ]
    rows = [row for part in parts for row in part]
    return [
        {"key": row.key, "time": row.time, **of_row}
        for row, of_row in zip(rows, values, strict=True)
        if row.asked
    ]


def expected(rows: list[Row], plan: StreamPlan) -> Iterator[dict[str, Any]]:
    """Each asked row's windows, by looking at every row before it."""
    for place, row in enumerate(rows):
        if row.asked:
            before = [r for r in rows[: place + 1] if r.key == row.key]
            features = {f.name: value(f, row, before, plan) for f in plan.features}
            yield {"key": row.key, "time": row.time, **features}


def value(feature: Feature, row: Row, before: list[Row], plan: StreamPlan) -> Any:
    window, function = feature.window, feature.function
    assert window is not None and function is not None
    end = row.time - window.delay_days * MICROS_PER_DAY
    start = row.time - window.lookback_days * MICROS_PER_DAY
    inside = [r for r in before if r.is_event and start < r.time <= end]
    counted = [r for r in inside if counts(r, feature)]
    amounts = [Fraction(r.money, 1000) for r in counted]
    number = len(counted)
    earlier = [r for r in inside if r is not row]
    labels = list(inside)
    if window in plan.corrected:
        labels += [r for r in before if r.corrects == plan.corrected.index(window)]
    judged, frauds = sum(r.judged for r in labels), sum(r.fraud for r in labels)
    functions: dict[Function, Callable[[], Any]] = {
        **of_amounts(feature, amounts),
        Function.SHARE: lambda: number / len(inside) if inside else feature.empty,
        Function.DISTINCT: lambda: len({r.value for r in inside}),
        Function.SECONDS_BETWEEN: lambda: window.length_days * 86_400 / number if number else None,
        Function.SECONDS_SINCE_LAST: lambda: (
            (row.time - earlier[-1].time) / 1e6 if earlier else None
        ),
        Function.FIRST_TIME: lambda: float(not earlier),
        Function.FRAUD_RATE: lambda: frauds / judged if judged else feature.empty,
        Function.FRAUD_COUNT: lambda: frauds,
        Function.LABEL_COUNT: lambda: judged,
    }
    return functions[function]()


@st.composite
def streams(draw: st.DrawFn, plan: StreamPlan) -> list[Row]:
    """Ties, keys of one event, gaps longer than any window, corrections of any window."""
    rows = []
    money = st.one_of(st.integers(-(10**13), 10**13), st.integers(10**12, 10**12 + 3))
    for key in "abc"[: draw(st.integers(1, 3))]:
        steps = st.sampled_from(
            (0, 0, 1, HOUR, MICROS_PER_DAY, 7 * MICROS_PER_DAY, 4000 * MICROS_PER_DAY)
        )
        time = draw(st.integers(-(10**15), 10**15))
        for step in draw(st.lists(steps, min_size=1, max_size=30)):
            time += step
            judged = draw(st.integers(0, 1))
            fraud = judged * draw(st.integers(0, 1))
            value = draw(st.sampled_from("xyz"))
            asked = draw(st.booleans())
            rows.append(Row(key, time, draw(money), judged, fraud, asked, value=value))
            if plan.corrected and draw(st.booleans()):
                corrects = draw(st.integers(0, len(plan.corrected) - 1))
                # A correction comes before the events of its moment.
                late = Row(key, time + 1, 0, 1, draw(st.integers(0, 1)), False, corrects)
                time += 1
                rows.append(late)
    return rows


@pytest.mark.parametrize("entity", [CARD, MERCHANT], ids=lambda entity: entity.name)
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_however_a_stream_is_cut(entity: Entity, data: st.DataObject) -> None:
    plan = plan_of(entity)
    rows = data.draw(streams(plan))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=8)))
    batches = [rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    found, whole = computed(batches, plan), computed([rows], plan)
    assert found == whole, "a batch's end has changed a bit"
    for one, wanted in zip(found, expected(rows, plan), strict=True):
        for name, right in wanted.items():
            if isinstance(right, float) and one[name] is not None:
                assert math.isclose(one[name], right, rel_tol=1e-12), name
            else:
                assert one[name] == right, name


def test_a_batch_of_many_groups_and_a_long_time_is_looked_at_in_parts() -> None:
    """Group and time have to fit into one whole number."""
    features = tuple(EVERY_FUNCTION[name] for name in ("card_count_30d", "card_count_1d"))
    plan = StreamPlan(("key",), "slice", features)
    century = 36_525 * MICROS_PER_DAY
    rows = [Row(f"{n:05d}", n % 2 * century, n, 0, 0, asked=True) for n in range(20_000)]
    found = computed([rows], plan)
    assert [row["card_count_30d"] for row in found] == [1] * len(rows)
    assert [row["time"] for row in found] == [row.time for row in rows]
    times = np.array([row.time for row in rows])
    pieces = list(window_stream._pieces(times, plan.reach))
    assert len(pieces) > 20_000 / window_stream.PIECE_ROWS + 1


def test_what_is_kept_of_a_group_lies_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = StreamPlan(("key",), "slice", (EVERY_FUNCTION["card_count_30d"],))
    rows = [Row("a", n * HOUR, 1, 0, 0, asked=True) for n in range(60 * 24)]
    sizes: list[int] = []
    original = window_stream.kept

    def watched(rows: Any, plan: StreamPlan, after: int) -> Any:
        found = original(rows, plan, after)
        sizes.append(found.num_rows)
        return found

    monkeypatch.setattr(window_stream, "kept", watched)
    computed([rows[n : n + 24] for n in range(0, len(rows), 24)], plan)
    assert max(sizes) == 30 * 24 - 1
