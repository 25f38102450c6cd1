"""What a model has to beat: an isolation forest without labels, boosted trees with them.

Both see single transactions and no sequence, as in the published comparisons. The forest needs some
number where a value is missing and gets 0, in fitting and scoring alike: of what it reads, only
the time since the last event is ever null (there was none). Both are fitted on bounded samples;
scoring is a pure function of an array, for a pandas UDF.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest

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


def fit_boosted_trees(
    values: npt.ArrayLike, frauds: npt.ArrayLike, seed: int
) -> HistGradientBoostingClassifier:
    """Gradient-boosted trees on rows [N, F] of feature values, NaN for missing, and [N] labels.

    Small trees, slowly learned, with large leaves: frauds are few. Nothing is held out to stop
    early, so the trees are as many whatever the rows.
    """
    trees = HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.05,
        max_leaf_nodes=15,
        min_samples_leaf=40,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    return trees.fit(np.asarray(values, dtype=np.float64), np.asarray(frauds, dtype=bool))


def boosted_scores(
    trees: HistGradientBoostingClassifier, values: npt.ArrayLike
) -> npt.NDArray[np.float64]:
    """[N] log odds of fraud of rows [N, F]."""
    rows = np.asarray(values, dtype=np.float64)
    if len(rows) == 0:
        return np.empty(0, dtype=np.float64)
    return np.asarray(trees.decision_function(rows), dtype=np.float64)


def _filled(values: npt.ArrayLike) -> npt.NDArray[Any]:
    rows = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(rows), MISSING_VALUE, rows)
