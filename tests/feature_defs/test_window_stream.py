"""The pass over a sorted stream, without Spark: the batches do not change the values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from every_function import EVERY_FUNCTION
from exact_money import money_functions
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_defs.feature import CARD, MERCHANT, Entity, Feature, Function
from feature_defs.point_in_time import window_stream
from feature_defs.point_in_time.stream_plan import (
    CORRECTED_WINDOW,
    GROUP_START,
    IS_OUTPUT,
    LAST_EVENT,
    LIMB_BITS,
    MICROS_PER_DAY,
    NO_EVENT,
    NO_MAX,
    NO_MIN,
    NO_WINDOW,
    TIME,
    StreamPlan,
    Sum,
)
from feature_defs.point_in_time.window_stream import WindowStream

Batch = tuple["pd.Series[Any]", ...]
HOUR = MICROS_PER_DAY // 24


@dataclass(frozen=True)
class Row:
    """A row of a stream: an event, or (with `corrected_window`) a correction of a late label."""

    key: str
    time: int
    money: int
    labelled: int
    fraud: int
    is_output: bool
    corrected_window: int = NO_WINDOW
    value: str = "x"

    @property
    def is_event(self) -> bool:
        return self.corrected_window == NO_WINDOW


def plan_of(entity: Entity) -> StreamPlan:
    features = tuple(f for f in EVERY_FUNCTION.values() if f.entity == entity)
    return StreamPlan(("key",), "slice", features)


def added(summed: Sum, row: Row, rows: list[Row], plan: StreamPlan) -> int:
    """Return what a row adds to a sum; here every condition is "the amount is even"."""
    if summed.quantity in ("labelled", "frauds"):
        adds = (
            row.is_event or plan.label_windows[row.corrected_window].delay_days == summed.num_days
        )
        return (row.labelled if summed.quantity == "labelled" else row.fraud) if adds else 0
    if not row.is_event or not matches(row, summed):
        return 0
    if summed.quantity in ("entering", "leaving"):
        same = [r for r in rows if r.is_event and (r.key, r.value) == (row.key, row.value)]
        position = next(n for n, r in enumerate(same) if r is row)
        other = position + (1 if summed.quantity == "leaving" else -1)
        assert summed.num_days is not None
        near = 0 <= other < len(same) and (
            abs(same[other].time - row.time) < summed.num_days * MICROS_PER_DAY
        )
        return int(not near)
    high, low = row.money >> LIMB_BITS, row.money & ((1 << LIMB_BITS) - 1)
    return {
        "events": 1,
        "money": row.money,
        "square_high": high * high,
        "square_middle": 2 * high * low,
        "square_low": low * low,
    }[summed.quantity]


def matches(row: Row, summed: Sum | Feature) -> bool:
    return summed.where is None or row.money % 2 == 0


def batch_of(part: list[Row], starts: list[bool], rows: list[Row], plan: StreamPlan) -> Batch:
    def integers(value: Callable[[Row], int]) -> pd.Series[Any]:
        return pd.Series([value(row) for row in part], dtype="int64")

    columns = {
        GROUP_START: pd.Series(starts, dtype="bool"),
        IS_OUTPUT: pd.Series([row.is_output for row in part], dtype="bool"),
        TIME: integers(lambda row: row.time),
        CORRECTED_WINDOW: integers(lambda row: row.corrected_window).astype("int32"),
        LAST_EVENT: integers(lambda row: row.time if row.is_event else NO_EVENT),
        "_min_amount": integers(lambda row: row.money if row.is_event else NO_MIN),
        "_max_amount": integers(lambda row: row.money if row.is_event else NO_MAX),
    }
    for summed in plan.sums:
        columns[summed.column] = integers(lambda row, s=summed: added(s, row, rows, plan))  # type: ignore[misc]
    return tuple(columns[name] for name in plan.input_columns)


def batches_of(parts: list[list[Row]], plan: StreamPlan) -> Iterator[Batch]:
    rows = [row for part in parts for row in part]
    keys = [row.key for row in rows]
    starts = [key != before for key, before in zip(keys, [None, *keys], strict=False)]
    position = 0
    for part in parts:
        yield batch_of(part, starts[position : position + len(part)], rows, plan)
        position += len(part)


def computed(parts: list[list[Row]], plan: StreamPlan) -> list[dict[str, Any]]:
    frames = list(WindowStream(plan)(batches_of(parts, plan)))
    assert [len(frame) for frame in frames] == [len(part) for part in parts]
    values = [
        {name: None if value != value else value for name, value in row.items()}
        for frame in frames
        for row in frame.to_dict("records")
    ]
    rows = [row for part in parts for row in part]
    return [
        {"key": row.key, "time": row.time, **of_row}
        for row, of_row in zip(rows, values, strict=True)
        if row.is_output
    ]


def expected(rows: list[Row], plan: StreamPlan) -> Iterator[dict[str, Any]]:
    """Yield the features of each output row, by a loop over all rows before it."""
    for position, row in enumerate(rows):
        if row.is_output:
            before = [r for r in rows[: position + 1] if r.key == row.key]
            features = {f.name: value(f, row, before, plan) for f in plan.features}
            yield {"key": row.key, "time": row.time, **features}


def value(feature: Feature, row: Row, before: list[Row], plan: StreamPlan) -> Any:
    window, function = feature.window, feature.function
    assert window is not None and function is not None
    end = row.time - window.delay_days * MICROS_PER_DAY
    start = row.time - window.lookback_days * MICROS_PER_DAY
    inside = [r for r in before if r.is_event and start < r.time <= end]
    counted = [r for r in inside if matches(r, feature)]
    amounts = [Fraction(r.money, 1000) for r in counted]
    number = len(counted)
    earlier = [r for r in inside if r is not row]
    labels = list(inside)
    if window in plan.label_windows:
        labels += [r for r in before if r.corrected_window == plan.label_windows.index(window)]
    labelled, frauds = sum(r.labelled for r in labels), sum(r.fraud for r in labels)
    functions: dict[Function, Callable[[], Any]] = {
        **money_functions(feature, amounts),
        Function.SHARE: lambda: number / len(inside) if inside else feature.empty,
        Function.DISTINCT: lambda: len({r.value for r in inside}),
        Function.SECONDS_BETWEEN: lambda: window.length_days * 86_400 / number if number else None,
        Function.SECONDS_SINCE_LAST: lambda: (
            (row.time - earlier[-1].time) / 1e6 if earlier else None
        ),
        Function.FIRST_TIME: lambda: float(not earlier),
        Function.FRAUD_RATE: lambda: frauds / labelled if labelled else feature.empty,
        Function.FRAUD_COUNT: lambda: frauds,
        Function.LABEL_COUNT: lambda: labelled,
    }
    return functions[function]()


@st.composite
def streams(draw: st.DrawFn, plan: StreamPlan) -> list[Row]:
    """Draw streams with ties, keys of one event, long gaps and corrections of any window."""
    rows = []
    money = st.one_of(st.integers(-(10**13), 10**13), st.integers(10**12, 10**12 + 3))
    for key in "abc"[: draw(st.integers(1, 3))]:
        steps = st.sampled_from(
            (0, 0, 1, HOUR, MICROS_PER_DAY, 7 * MICROS_PER_DAY, 4000 * MICROS_PER_DAY)
        )
        time = draw(st.integers(-(10**15), 10**15))
        for step in draw(st.lists(steps, min_size=1, max_size=30)):
            time += step
            labelled = draw(st.integers(0, 1))
            fraud = labelled * draw(st.integers(0, 1))
            value = draw(st.sampled_from("xyz"))
            is_output = draw(st.booleans())
            rows.append(Row(key, time, draw(money), labelled, fraud, is_output, value=value))
            if plan.label_windows and draw(st.booleans()):
                corrected_window = draw(st.integers(0, len(plan.label_windows) - 1))
                # At one moment, corrections come before events.
                late = Row(key, time + 1, 0, 1, draw(st.integers(0, 1)), False, corrected_window)
                time += 1
                rows.append(late)
    return rows


@pytest.mark.parametrize("entity", [CARD, MERCHANT], ids=lambda entity: entity.name)
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_batch_boundaries_do_not_change_values(entity: Entity, data: st.DataObject) -> None:
    plan = plan_of(entity)
    rows = data.draw(streams(plan))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=8)))
    batches = [rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    actual, whole = computed(batches, plan), computed([rows], plan)
    assert actual == whole, "a batch boundary changed a value"
    for one, wanted in zip(actual, expected(rows, plan), strict=True):
        for name, right in wanted.items():
            if isinstance(right, float) and one[name] is not None:
                assert math.isclose(one[name], right, rel_tol=1e-12), name
            else:
                assert one[name] == right, name


def test_batch_with_many_groups_and_a_long_time_is_split_into_chunks() -> None:
    """Group number and time must fit into one integer."""
    features = tuple(EVERY_FUNCTION[name] for name in ("card_count_30d", "card_count_1d"))
    plan = StreamPlan(("key",), "slice", features)
    century = 36_525 * MICROS_PER_DAY
    rows = [Row(f"{n:05d}", n % 2 * century, n, 0, 0, is_output=True) for n in range(20_000)]
    actual = computed([rows], plan)
    assert [row["card_count_30d"] for row in actual] == [1] * len(rows)
    assert [row["time"] for row in actual] == [row.time for row in rows]
    times = np.array([row.time for row in rows])
    chunks = list(window_stream._chunks(times, plan.lookback_micros))
    assert len(chunks) > 20_000 / window_stream.CHUNK_ROWS + 1


def test_carried_rows_are_within_the_lookback(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = StreamPlan(("key",), "slice", (EVERY_FUNCTION["card_count_30d"],))
    rows = [Row("a", n * HOUR, 1, 0, 0, is_output=True) for n in range(60 * 24)]
    sizes: list[int] = []
    original = window_stream.within_lookback

    def recorded(rows: Any, plan: StreamPlan, after: int) -> Any:
        carried = original(rows, plan, after)
        sizes.append(carried.num_rows)
        return carried

    monkeypatch.setattr(window_stream, "within_lookback", recorded)
    computed([rows[n : n + 24] for n in range(0, len(rows), 24)], plan)
    assert max(sizes) == 30 * 24 - 1
