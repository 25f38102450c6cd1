"""The functions of amounts, computed with fractions: exact reference values for tests."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from feature_defs.feature import Feature, Function


def money_functions(
    feature: Feature, amounts: Sequence[Fraction]
) -> dict[Function, Callable[[], Any]]:
    """Return each function of the amounts that match the feature's condition."""
    number = len(amounts)
    return {
        Function.COUNT: lambda: number,
        Function.SUM: lambda: float(sum(amounts)),
        Function.MEAN: lambda: float(sum(amounts) / number) if number else feature.empty,
        Function.MIN: lambda: float(min(amounts)) if number else None,
        Function.MAX: lambda: float(max(amounts)) if number else None,
        Function.STD: lambda: float(statistics.stdev(amounts)) if number > 1 else None,
    }
