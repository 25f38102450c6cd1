"""What gate 3 compares: by how much a challenger's figures exceed the incumbent's. Pure.

>>> ours, theirs = {"average_precision": 0.75, "cp_at_k": 0.25}, {"average_precision": 0.5}
>>> margins(ours, theirs)
{'average_precision': 0.25, 'cp_at_k': None}
"""

from __future__ import annotations

import math
from collections.abc import Mapping

# Figures that must be at least the incumbent's, on the same rows.
JUDGED = ("average_precision", "cp_at_k")


def margins(
    challenger_figures: Mapping[str, float | None], incumbent_figures: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Each judged figure of the challenger minus the incumbent's.

    The incumbent is the champion, or the isolation forest before there is one. A figure that is
    missing or NaN on either side gives no margin.
    """
    return {
        name: _margin(challenger_figures.get(name), incumbent_figures.get(name)) for name in JUDGED
    }


def _margin(challenger: float | None, incumbent: float | None) -> float | None:
    if challenger is None or incumbent is None:
        return None
    margin = challenger - incumbent
    return None if math.isnan(margin) else margin
