"""Functions of the amounts in a window by hand, in exact arithmetic."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from feature_defs.feature import Feature, Function


def of_amounts(feature: Feature, amounts: Sequence[Fraction]) -> dict[Function, Callable[[], Any]]:
    """What each function of money makes of the amounts that count."""
    number = len(amounts)
    return {
        Function.COUNT: lambda: number,
        Function.SUM: lambda: float(sum(amounts)),
        Function.MEAN: lambda: float(sum(amounts) / number) if number else feature.empty,
        Function.MIN: lambda: float(min(amounts)) if number else None,
        Function.MAX: lambda: float(max(amounts)) if number else None,
        Function.STD: lambda: float(statistics.stdev(amounts)) if number > 1 else None,
    }
