"""The isolation forest: what a first model has to beat.

It sees single transactions and no sequence, as in the published comparison. Missing values
become 0 before fitting and scoring alike: of what models read, only the time since the last event
is ever null (there was none), and a forest needs some number. Fitted on a bounded sample; scoring
is a pure function of an array, for a pandas UDF.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import IsolationForest

NUM_TREES = 100
MISSING_VALUE = 0.0


def fit_isolation_forest(values: npt.ArrayLike, seed: int) -> IsolationForest:
    """Fit on rows [N, F] of feature values; the same seed gives the same forest."""
    forest = IsolationForest(n_estimators=NUM_TREES, random_state=seed, n_jobs=1)
    return forest.fit(_filled(values))


def forest_scores(forest: IsolationForest, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """[N] oddness of rows [N, F], in [0, 1]: higher is odder."""
    rows = _filled(values)
    if len(rows) == 0:
        return np.empty(0, dtype=np.float64)
    return np.asarray(-forest.score_samples(rows), dtype=np.float64)


def _filled(values: npt.ArrayLike) -> npt.NDArray[Any]:
    rows = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(rows), MISSING_VALUE, rows)
