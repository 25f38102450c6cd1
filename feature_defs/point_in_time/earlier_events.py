"""Compares events with the earlier events in their windows, with numpy.

Shapes: `N` rows of the stream, `A` output rows among them, at the positions `at`. The earlier
events of an output row are the rows from `start` up to but without `end`; both have shape [A].
A value is `ABSENT` for a row without one.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from feature_defs.point_in_time.stream_plan import ABSENT, DEGREE_UNITS, MICROS_PER_DAY

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]

# Mean radius of the Earth (IUGG), and the precision of distances: a metre. Different libraries
# compute sines that differ in the last bit; rounded distances are equal to the bit.
EARTH_RADIUS_KM, METRES_PER_KM = 6371.0088, 1000
# Two hours of the day are near if they are at most this far apart, round the clock.
NEAR_MICROS = 2 * MICROS_PER_DAY // 24


def divide(part: Ints | Floats, whole: Ints | Floats) -> Floats:
    """Return part / whole, NaN where the whole is 0."""
    empty = whole == 0
    return np.where(empty, np.nan, part / np.where(empty, 1, whole))


def nan_unless(defined: npt.NDArray[np.bool_], values: Floats) -> Floats:
    """Return the values where they are defined, NaN elsewhere."""
    return np.where(defined, values, np.nan)


def count_equal(values: Ints, at: Positions, start: Positions, end: Positions) -> Ints:
    """Return how many earlier events have the value of each output row, [A]."""
    # Equal values become neighbours, in the order of the rows.
    order = np.argsort(values, kind="stable")
    in_order = values[order]
    number = np.zeros(len(values), dtype=np.int64)
    number[order] = np.cumsum(np.concatenate([[0], in_order[1:] != in_order[:-1]]))
    size = len(values) + 1
    value_and_row = number[order] * size + order
    of_output = number[at] * size
    before_end = np.searchsorted(value_and_row, of_output + end)
    counted: Ints = before_end - np.searchsorted(value_and_row, of_output + start)
    return counted


class OrderedValues:
    """Counts small values in any range of rows (a wavelet matrix).

    The rows are sorted bit by bit by the rank of their value. A range of rows stays a range at
    every bit, so a count takes one step per bit of the number of rows.
    """

    def __init__(self, values: Ints) -> None:
        self._values = values

    @cached_property
    def _sorted(self) -> Ints:
        return np.sort(self._values)

    @cached_property
    def _levels(self) -> list[tuple[int, Ints]]:
        """Return each bit, highest first, and the number of zeros before each row, [N + 1]."""
        ranks = np.searchsorted(self._sorted, self._values, side="left")
        levels = []
        for bit in reversed(range(len(ranks).bit_length())):
            is_zero = (ranks >> bit) & 1 == 0
            levels.append((bit, np.concatenate([[0], np.cumsum(is_zero)])))
            ranks = np.concatenate([ranks[is_zero], ranks[~is_zero]])
        return levels

    def count_below(self, limit: Ints, start: Positions, end: Positions) -> Ints:
        """Return how many values of `[start, end)` are below `limit`, [A]."""
        rank = np.searchsorted(self._sorted, limit, side="left")
        counted = np.zeros(len(rank), dtype=np.int64)
        for bit, zeros in self._levels:
            zeros_start, zeros_end = zeros[start], zeros[end]
            is_one = (rank >> bit) & 1 == 1
            counted += np.where(is_one, zeros_end - zeros_start, 0)
            start = np.where(is_one, zeros[-1] + start - zeros_start, zeros_start)
            end = np.where(is_one, zeros[-1] + end - zeros_end, zeros_end)
        return counted


def quantile_rank(values: Ints, at: Positions, start: Positions, end: Positions) -> Floats:
    """Return the share of the earlier values below each output row's value; equal ones count half.

    [A], NaN without earlier values or without a value.
    """
    ordered, own = OrderedValues(values), values[at]
    absent = ordered.count_below(np.full(len(at), ABSENT + 1), start, end)
    below, not_above = (ordered.count_below(own + more, start, end) - absent for more in (0, 1))
    rank = divide(below + not_above, 2 * (end - start - absent))
    return nan_unless(own != ABSENT, rank)


def hour_share(times_of_day: Ints, at: Positions, start: Positions, end: Positions) -> Floats:
    """Return the share of the earlier events that are near in the time of day, [A].

    NaN without earlier events that have a time of day, or if the output row has none.
    """
    ordered, own = OrderedValues(times_of_day), times_of_day[at]

    def below(limit: Ints | int) -> Ints:
        return ordered.count_below(np.broadcast_to(limit, at.shape), start, end)

    first, last = own - NEAR_MICROS, own + NEAR_MICROS
    absent = below(0)
    near = below(last + 1) - below(np.maximum(first, 0))
    # Before midnight of the day before, and after midnight of the day after.
    near += np.where(first < 0, end - start - below(first + MICROS_PER_DAY), 0)
    near += np.where(last >= MICROS_PER_DAY, below(last + 1 - MICROS_PER_DAY) - absent, 0)
    return nan_unless(own != ABSENT, divide(near, end - start - absent))


def kilometres(
    latitude: Ints, longitude: Ints, other_latitude: Ints, other_longitude: Ints
) -> Floats:
    """Return great-circle distances (haversine) in km, in whole metres.

    Coordinates are in units of 1 / `DEGREE_UNITS` degrees; NaN where one is `ABSENT`.

    >>> paris, london = (488_566_000, 23_522_000), (515_074_000, -1_278_000)
    >>> kilometres(*(np.array([value]) for value in (*paris, *london))).tolist()
    [343.557]
    """
    known = np.ones(len(latitude), dtype=bool)
    for values in (latitude, longitude, other_latitude, other_longitude):
        known &= values != ABSENT
    here, there, east, other_east = (
        np.radians(np.where(known, values, 0) / DEGREE_UNITS)
        for values in (latitude, other_latitude, longitude, other_longitude)
    )
    square = (
        np.sin((here - there) / 2) ** 2
        + np.cos(here) * np.cos(there) * np.sin((east - other_east) / 2) ** 2
    )
    distance = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(square, 1)))
    return nan_unless(known, np.rint(distance * METRES_PER_KM) / METRES_PER_KM)
