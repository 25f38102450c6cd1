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
from every_function import ACCOUNT, EVERY_FUNCTION
from exact_money import money_functions
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_comparisons import (
    deviation,
    hour_share,
    kilometres,
    quantile_rank,
    same_share,
    speed,
)

from feature_defs.feature import CARD, MERCHANT, Entity, Feature, Function
from feature_defs.point_in_time import window_stream
from feature_defs.point_in_time.stream_plan import (
    ABSENT,
    CORRECTED_WINDOW,
    DEGREE_UNITS,
    GROUP_START,
    IS_OUTPUT,
    LAST_EVENT,
    LIMB_BITS,
    MICROS_PER_DAY,
    MICROS_PER_SECOND,
    NO_EVENT,
    NO_MAX,
    NO_MIN,
    NO_WINDOW,
    TIME,
    EventValue,
    StreamPlan,
    Sum,
)
from feature_defs.point_in_time.window_stream import WindowStream

Batch = tuple["pd.Series[Any]", ...]
HOUR = MICROS_PER_DAY // 24
MINUTE = HOUR // 60
NULLABLE = ("merchant_category", "cardholder_age", "loyalty_points", "original_amount")


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
    # Whether it has no attributes: no text, no number but the amount, no place, no hour.
    is_bare: bool = False
    place: tuple[int, int] = (0, 0)

    @property
    def is_event(self) -> bool:
        return self.corrected_window == NO_WINDOW


def plan_of(entity: Entity) -> StreamPlan:
    features = tuple(f for f in EVERY_FUNCTION.values() if f.entity == entity)
    return StreamPlan(("key",), "slice", features)


def added(summed: Sum, row: Row, rows: list[Row], plan: StreamPlan) -> int:
    """Return what a row adds to a sum; here every condition is "the amount is even"."""
    if summed.quantity in ("labelled", "frauds"):
        adds = row.is_event or plan.label_windows[row.corrected_window].delay_s == summed.seconds
        return (row.labelled if summed.quantity == "labelled" else row.fraud) if adds else 0
    if not row.is_event or not matches(row, summed):
        return 0
    if summed.measure in NULLABLE and row.is_bare:
        return 0
    if summed.quantity in ("entering", "leaving"):
        same = [r for r in rows if r.is_event and (r.key, r.value) == (row.key, row.value)]
        if summed.measure in NULLABLE:
            same = [r for r in same if not r.is_bare]
        position = next(n for n, r in enumerate(same) if r is row)
        other = position + (1 if summed.quantity == "leaving" else -1)
        assert summed.seconds is not None
        near = 0 <= other < len(same) and (
            abs(same[other].time - row.time) < summed.seconds * MICROS_PER_SECOND
        )
        return int(not near)
    limb = (1 << LIMB_BITS) - 1
    high, middle, low = row.money >> 2 * LIMB_BITS, row.money >> LIMB_BITS & limb, row.money & limb
    return {
        "events": 1,
        "present": 1,
        "number": row.money,
        "square_4": high * high,
        "square_3": 2 * high * middle,
        "square_2": 2 * high * low + middle * middle,
        "square_1": 2 * middle * low,
        "square_0": low * low,
    }[summed.quantity]


def event_value(value: EventValue, row: Row) -> int:
    """Return the value of a row in a column of single values."""
    if not row.is_event or (row.is_bare and value.measure != "amount"):
        return ABSENT
    return {
        "hash": ord(row.value),
        "number": row.money,
        "time_of_day": row.time % MICROS_PER_DAY,
        "latitude": row.place[0],
        "longitude": row.place[1],
    }[value.quantity]


def attribute(row: Row, value: Any) -> Any:
    """Return what the row knows of an attribute."""
    return None if row.is_bare else value


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
        **{
            name: integers(
                lambda row, m=measure, empty=empty: (  # type: ignore[misc]
                    row.money if row.is_event and not (row.is_bare and m in NULLABLE) else empty
                )
            )
            for measure in ("amount", *NULLABLE)
            for name, empty in ((f"_min_{measure}", NO_MIN), (f"_max_{measure}", NO_MAX))
        },
    }
    for value in plan.event_values:
        columns[value.column] = integers(lambda row, v=value: event_value(v, row))  # type: ignore[misc]
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
    end = row.time - window.delay_s * MICROS_PER_SECOND
    start = row.time - window.lookback_s * MICROS_PER_SECOND
    inside = [r for r in before if r.is_event and start < r.time <= end]
    counted = [r for r in inside if matches(r, feature)]
    number = len(counted)
    is_nullable = feature.measure in NULLABLE
    numbers = [
        None if r.is_bare and is_nullable else Fraction(r.money, 10**feature.scale) for r in counted
    ]
    amounts = [amount for amount in numbers if amount is not None]
    earlier = [r for r in inside if r is not row]
    own = None if row.is_bare and is_nullable else Fraction(row.money, 10**feature.scale)
    before_this = [n for n, r in zip(numbers, counted, strict=True) if r is not row]
    way = kilometres(degrees(row), degrees(earlier[-1])) if earlier else None
    labels = list(inside)
    if window in plan.label_windows:
        labels += [r for r in before if r.corrected_window == plan.label_windows.index(window)]
    labelled, frauds = sum(r.labelled for r in labels), sum(r.fraud for r in labels)
    functions: dict[Function, Callable[[], Any]] = {
        **money_functions(feature, amounts),
        Function.SHARE: lambda: number / len(inside) if inside else feature.empty,
        Function.DISTINCT: lambda: len(
            {r.value for r in inside if not (r.is_bare and is_nullable)}
        ),
        Function.SAME_SHARE: lambda: same_share(
            attribute(row, row.value), [attribute(r, r.value) for r in earlier]
        ),
        Function.DEVIATION: lambda: deviation(own, before_this),
        Function.QUANTILE_RANK: lambda: quantile_rank(own, before_this),
        Function.HOUR_SHARE: lambda: hour_share(
            attribute(row, row.time % MICROS_PER_DAY),
            [attribute(r, r.time % MICROS_PER_DAY) for r in earlier],
        ),
        Function.KILOMETRES_SINCE_LAST: lambda: way,
        Function.SPEED_SINCE_LAST: lambda: (
            speed(way, (row.time - earlier[-1].time) / 1e6) if earlier else None
        ),
        Function.SECONDS_BETWEEN: lambda: window.length_s / number if number else None,
        Function.SECONDS_SINCE_LAST: lambda: (
            (row.time - earlier[-1].time) / 1e6 if earlier else None
        ),
        Function.FIRST_TIME: lambda: float(not earlier),
        Function.FRAUD_RATE: lambda: frauds / labelled if labelled else feature.empty,
        Function.FRAUD_COUNT: lambda: frauds,
        Function.LABEL_COUNT: lambda: labelled,
    }
    return functions[function]()


def degrees(row: Row) -> tuple[float, float] | None:
    return None if row.is_bare else (row.place[0] / DEGREE_UNITS, row.place[1] / DEGREE_UNITS)


@st.composite
def streams(draw: st.DrawFn, plan: StreamPlan) -> list[Row]:
    """Draw streams with ties, keys of one event, long gaps and corrections of any window."""
    rows = []
    money = st.one_of(st.integers(-(10**13), 10**13), st.integers(10**12, 10**12 + 3))
    for key in "abc"[: draw(st.integers(1, 3))]:
        steps = st.sampled_from(
            (
                0,
                0,
                1,
                37 * MINUTE - 1,
                37 * MINUTE,
                HOUR,
                MICROS_PER_DAY,
                7 * MICROS_PER_DAY,
                4000 * MICROS_PER_DAY,
            )
        )
        time = draw(st.integers(-(10**15), 10**15))
        for step in draw(st.lists(steps, min_size=1, max_size=30)):
            time += step
            labelled = draw(st.integers(0, 1))
            fraud = labelled * draw(st.integers(0, 1))
            value = draw(st.sampled_from("xyz"))
            is_output = draw(st.booleans())
            place = st.tuples(
                st.integers(-90 * DEGREE_UNITS, 90 * DEGREE_UNITS),
                st.integers(-180 * DEGREE_UNITS, 180 * DEGREE_UNITS),
            )
            rows.append(
                Row(
                    key,
                    time,
                    draw(money),
                    labelled,
                    fraud,
                    is_output,
                    value=value,
                    is_bare=draw(st.integers(0, 3)) == 0,
                    place=draw(st.one_of(st.just((488_566_000, 23_522_000)), place)),
                )
            )
            if plan.label_windows and draw(st.booleans()):
                corrected_window = draw(st.integers(0, len(plan.label_windows) - 1))
                # At one moment, corrections come before events.
                late = Row(key, time + 1, 0, 1, draw(st.integers(0, 1)), False, corrected_window)
                time += 1
                rows.append(late)
    return rows


@pytest.mark.parametrize("entity", [CARD, MERCHANT, ACCOUNT], ids=lambda entity: entity.name)
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
