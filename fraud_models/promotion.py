"""Gate 3: may the challenger go into service? A pure decision on figures.

>>> better, worse = {"average_precision": 0.7, "cp_at_k": 0.3}, {"average_precision": 0.6}
>>> decide(better, {**worse, "cp_at_k": 0.3}).promote
True
>>> decide(better, worse).promote
False
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

# Figures that must be at least the incumbent's, on the same rows.
JUDGED = ("average_precision", "cp_at_k")


@dataclass(frozen=True)
class PromotionDecision:
    """The decision, with one sentence per figure."""

    promote: bool
    reasons: tuple[str, ...]


def decide(
    challenger_figures: Mapping[str, float | None], incumbent_figures: Mapping[str, float | None]
) -> PromotionDecision:
    """Promote when every judged figure is at least the incumbent's.

    The incumbent is the champion, or the isolation forest before there is one. A figure that is
    missing or NaN on either side cannot decide, which is a no.
    """
    verdicts = [
        _compare(name, challenger_figures.get(name), incumbent_figures.get(name)) for name in JUDGED
    ]
    return PromotionDecision(
        promote=all(passed for passed, _ in verdicts),
        reasons=tuple(reason for _, reason in verdicts),
    )


def _compare(name: str, challenger: float | None, incumbent: float | None) -> tuple[bool, str]:
    if challenger is None or math.isnan(challenger):
        return False, f"{name} of the challenger is unknown"
    if incumbent is None or math.isnan(incumbent):
        return False, f"{name} of the incumbent is unknown"
    passed = challenger >= incumbent
    relation = "at least" if passed else "below"
    return passed, f"{name} {challenger:.4f} is {relation} the incumbent's {incumbent:.4f}"
