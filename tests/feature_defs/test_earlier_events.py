"""Comparisons with earlier events, without Spark: each event of a window counts, itself never."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_window_stream import MINUTE, Row, computed

from feature_defs.feature import CARD, MERCHANT, Entity, Feature
from feature_defs.language import (
    Aggregation,
    FeatureView,
    count,
    days,
    deviation,
    distinct,
    hour_share,
    hours,
    kilometres_since_last,
    minutes,
    quantile_rank,
    same_share,
    speed_since_last,
)
from feature_defs.point_in_time.earlier_events import OrderedValues, count_equal
from feature_defs.point_in_time.stream_plan import MICROS_PER_DAY, StreamPlan
from feature_defs.sources import TRANSACTIONS

HOUR = 60 * MINUTE
NOON = 20_000 * MICROS_PER_DAY + 12 * HOUR
PARIS, LONDON = (488_566_000, 23_522_000), (515_074_000, -1_278_000)


def feature_of(aggregation: Aggregation, entity: Entity = CARD) -> Feature:
    (feature,) = FeatureView(entity, TRANSACTIONS, (aggregation,), "").features
    return feature


def last_value(aggregation: Aggregation, rows: list[Row], entity: Entity = CARD) -> Any:
    """Return the feature of the last row, which must not depend on the batches."""
    feature = feature_of(aggregation, entity)
    plan = StreamPlan(("key",), "slice", (feature,))
    whole = computed([rows], plan)[-1][feature.name]
    assert computed([[row] for row in rows], plan)[-1][feature.name] == whole
    return whole


def row(time: int, money: int = 1000, **changes: Any) -> Row:
    return Row("key", time, money, 0, 0, is_output=True, **changes)


@pytest.mark.parametrize(
    ("windows", "length"), [(minutes(10), 10 * MINUTE), (hours(1), HOUR), (hours(6), 6 * HOUR)]
)
def test_short_window_is_open_at_its_start_and_closed_at_its_end(windows: Any, length: int) -> None:
    """One event before, exactly at and after the start; itself and a tie at its end."""
    rows = [row(NOON - length + shift) for shift in (-1, 0, 1)] + [row(NOON), row(NOON)]
    assert last_value(count(windows), rows) == 3
    assert last_value(count(windows), rows[:-1]) == 2


def test_delayed_short_window_is_closed_at_its_end() -> None:
    windows = hours(6, delay=1)
    rows = [row(NOON - 7 * HOUR + shift) for shift in (-1, 0, 1)]
    rows += [row(NOON - HOUR + shift) for shift in (-1, 0, 1)] + [row(NOON)]
    assert last_value(count(windows), rows) == 3


def test_cards_at_a_merchant_within_ten_minutes() -> None:
    rows = [
        row(NOON - 10 * MINUTE, value="left"),
        row(NOON - 10 * MINUTE + 1, value="a"),
        row(NOON - MINUTE, value="b"),
        row(NOON - MINUTE, value="a"),
        row(NOON, value="c"),
    ]
    assert last_value(distinct("card_id", minutes(10)), rows, MERCHANT) == 3


def test_same_share_never_sees_the_event_itself() -> None:
    same = same_share("merchant_category", days(1))
    assert last_value(same, [row(NOON, value="a")]) is None
    assert last_value(same, [row(NOON - 1, value="b"), row(NOON, value="a")]) == 0.0
    assert last_value(same, [row(NOON - 1, value="a"), row(NOON, value="a")]) == 1.0


def test_same_share_of_events_before_at_and_after_the_window_start() -> None:
    rows = [
        row(NOON - MICROS_PER_DAY - 1, value="a"),
        row(NOON - MICROS_PER_DAY, value="a"),
        row(NOON - MICROS_PER_DAY + 1, value="a"),
        row(NOON - 1, value="b"),
        row(NOON - 1, value="a", is_bare=True),
        row(NOON, value="a"),
        row(NOON, value="a"),
    ]
    # After the start: a, b, none, and the tie with a smaller id.
    assert last_value(same_share("merchant_category", days(1)), rows) == 2 / 4
    bare = [*rows[:-1], row(NOON, is_bare=True)]
    assert last_value(same_share("merchant_category", days(1)), bare) is None


def test_same_share_with_a_delay_ends_before_the_event() -> None:
    rows = [row(NOON - 2 * HOUR, value="a"), row(NOON - 1, value="a"), row(NOON, value="b")]
    delayed = same_share("merchant_category", hours(6, delay=1))
    assert last_value(delayed, rows) == 0.0
    assert last_value(delayed, [*rows[:-1], row(NOON, value="a")]) == 1.0


def test_deviation_needs_two_different_earlier_events() -> None:
    usual = deviation("amount", days(1))
    assert last_value(usual, [row(NOON - 2, 1000), row(NOON, 9000)]) is None
    assert last_value(usual, [row(NOON - 2, 1000), row(NOON - 1, 1000), row(NOON, 9000)]) is None
    # Mean 2, standard deviation sqrt(2), of 1 and 3.
    rows = [row(NOON - 2, 1000), row(NOON - 1, 3000), row(NOON, 9000)]
    assert last_value(usual, rows) == pytest.approx(7 / 2**0.5, rel=1e-15)
    before = [row(NOON - MICROS_PER_DAY, 500_000), *rows]
    assert last_value(usual, before) == last_value(usual, rows)


def test_quantile_rank_counts_equal_amounts_half() -> None:
    rank = quantile_rank("amount", days(1))
    assert last_value(rank, [row(NOON, 5)]) is None
    amounts = (1, 5, 5, 9)
    rows = [row(NOON - MICROS_PER_DAY, 1), *(row(NOON - 1, amount) for amount in amounts)]
    assert last_value(rank, [*rows, row(NOON, 5)]) == (1 + 2 / 2) / 4
    assert last_value(rank, [*rows, row(NOON, -7)]) == 0.0
    assert last_value(rank, [*rows, row(NOON, 10)]) == 1.0


@pytest.mark.parametrize(
    ("hour_of_day", "shift", "is_near"),
    [
        *((12, shift, True) for shift in (-2 * HOUR, 0, 2 * HOUR)),
        *((12, shift, False) for shift in (-2 * HOUR - 1, 2 * HOUR + 1, 12 * HOUR)),
        *((1, shift, True) for shift in (-2 * HOUR, -90 * MINUTE, 2 * HOUR)),
        *((23, shift, True) for shift in (-2 * HOUR, 90 * MINUTE, 2 * HOUR)),
        *((1, shift, False) for shift in (-2 * HOUR - 1, 2 * HOUR + 1)),
        *((23, shift, False) for shift in (-2 * HOUR - 1, 2 * HOUR + 1)),
    ],
)
def test_hours_are_near_round_the_clock(hour_of_day: int, shift: int, is_near: bool) -> None:
    moment = 20_000 * MICROS_PER_DAY + hour_of_day * HOUR
    rows = [row(moment - 7 * MICROS_PER_DAY + shift), row(moment)]
    assert last_value(hour_share(days(30)), rows) == float(is_near)


def test_hour_share_leaves_out_events_without_a_time_of_day() -> None:
    rows = [
        row(NOON - MICROS_PER_DAY),
        row(NOON - MICROS_PER_DAY + 6 * HOUR),
        row(NOON - 3, is_bare=True),
        row(NOON),
    ]
    assert last_value(hour_share(days(30)), rows) == 0.5
    assert last_value(hour_share(days(30)), [*rows[:-1], row(NOON, is_bare=True)]) is None
    assert last_value(hour_share(days(30)), rows[-1:]) is None


def test_kilometres_and_speed_since_the_event_before() -> None:
    way, speed = kilometres_since_last(days(1)), speed_since_last(days(1))
    rows = [row(NOON - 2 * HOUR, place=PARIS), row(NOON, place=LONDON)]
    assert last_value(way, rows) == 343.557
    assert last_value(speed, rows) == pytest.approx(343.557 / 2, rel=1e-15)
    # At the start of the window, and before it.
    for shift in (0, 1):
        left = [row(NOON - MICROS_PER_DAY - shift, place=PARIS), row(NOON, place=LONDON)]
        assert last_value(way, left) is None
        assert last_value(speed, left) is None
    together = [row(NOON, place=PARIS), row(NOON, place=LONDON)]
    assert last_value(way, together) == 343.557
    assert last_value(speed, together) is None
    for bare in (0, 1):
        unknown = [
            row(NOON - HOUR, place=PARIS, is_bare=bare == 0),
            row(NOON, place=PARIS, is_bare=bare == 1),
        ]
        assert last_value(way, unknown) is None


def test_previous_event_without_a_place_is_not_skipped() -> None:
    rows = [
        row(NOON - 2 * HOUR, place=PARIS),
        row(NOON - HOUR, place=PARIS, is_bare=True),
        row(NOON, place=LONDON),
    ]
    assert last_value(kilometres_since_last(days(1)), rows) is None


@st.composite
def ranges(draw: st.DrawFn) -> tuple[Any, Any, Any, Any]:
    values = draw(st.lists(st.integers(-5, 5), min_size=1, max_size=40))
    ends = st.tuples(st.integers(0, len(values)), st.integers(0, len(values))).map(sorted)
    pairs = draw(st.lists(ends, min_size=1, max_size=20))
    at = draw(st.lists(st.integers(0, len(values) - 1), min_size=len(pairs), max_size=len(pairs)))
    start, end = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    return np.array(values, dtype=np.int64), np.array(at), start, end


@settings(max_examples=300, deadline=None)
@given(ranges(), st.integers(-7, 7))
def test_counts_of_ranges_equal_a_loop(given_ranges: tuple[Any, Any, Any, Any], limit: int) -> None:
    values, at, start, end = given_ranges
    parts = [values[a:b] for a, b in zip(start, end, strict=True)]
    below = OrderedValues(values).count_below(np.full(len(at), limit), start, end)
    assert below.tolist() == [int((part < limit).sum()) for part in parts]
    equal = count_equal(values, at, start, end)
    wanted = [int((p == v).sum()) for p, v in zip(parts, values[at], strict=True)]
    assert equal.tolist() == wanted
