"""How an event compares with earlier ones, by plain loops: reference values for tests."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

MICROS_PER_DAY = 86_400_000_000
TWO_HOURS = 7_200_000_000
# Latitude and longitude in degrees.
Place = tuple[float, float]


def same_share(own: Any, earlier: Sequence[Any]) -> float | None:
    if own is None or not earlier:
        return None
    return sum(value == own for value in earlier) / len(earlier)


def deviation(own: Fraction | None, earlier: Sequence[Fraction | None]) -> float | None:
    known = [value for value in earlier if value is not None]
    if own is None or len(known) < 2 or len(set(known)) == 1:
        return None
    return float((own - statistics.mean(known)) / Fraction(statistics.stdev(known)))


def quantile_rank(own: Fraction | None, earlier: Sequence[Fraction | None]) -> float | None:
    known = [value for value in earlier if value is not None]
    if own is None or not known:
        return None
    half = Fraction(1, 2)
    rank = sum((value < own) + half * (value == own) for value in known)
    return float(rank / len(known))


def hour_share(own: int | None, earlier: Sequence[int | None]) -> float | None:
    """Times of day are in microseconds."""
    known = [value for value in earlier if value is not None]
    if own is None or not known:
        return None
    gaps = [abs(value - own) for value in known]
    return sum(min(gap, MICROS_PER_DAY - gap) <= TWO_HOURS for gap in gaps) / len(known)


def kilometres(place: Place | None, other: Place | None) -> float | None:
    """Return the great-circle distance in whole metres, by the haversine formula."""
    if place is None or other is None:
        return None
    (north, east), (other_north, other_east) = (map(math.radians, p) for p in (place, other))
    square = math.sin((north - other_north) / 2) ** 2
    square += math.cos(north) * math.cos(other_north) * math.sin((east - other_east) / 2) ** 2
    return round(2 * 6371.0088 * math.asin(min(1.0, math.sqrt(square))), 3)


def speed(distance: float | None, seconds: float) -> float | None:
    return distance * 3600 / seconds if distance is not None and seconds else None
