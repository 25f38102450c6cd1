"""Promotion margins, which gate 3 checks: a challenger's metrics minus the incumbent's.

>>> challenger = {"average_precision": 0.75, "cp_at_k": 0.25}
>>> margins(challenger, {"average_precision": 0.5})
{'average_precision': 0.25, 'cp_at_k': None}
"""

from __future__ import annotations

import math
from collections.abc import Mapping

# Metrics that must be at least the incumbent's, on the same rows.
COMPARED_METRICS = ("average_precision", "cp_at_k")


def margins(
    challenger_metrics: Mapping[str, float | None], incumbent_metrics: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Return each compared metric of the challenger minus the incumbent's.

    The incumbent is the champion, or the isolation forest while there is no champion. The margin
    is None where a metric is missing or NaN on either side.
    """
    return {
        name: _margin(challenger_metrics.get(name), incumbent_metrics.get(name))
        for name in COMPARED_METRICS
    }


def _margin(challenger: float | None, incumbent: float | None) -> float | None:
    if challenger is None or incumbent is None:
        return None
    margin = challenger - incumbent
    return None if math.isnan(margin) else margin
