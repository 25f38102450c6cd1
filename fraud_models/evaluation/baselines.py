"""Baselines that a model must beat: an isolation forest (no labels) and boosted trees (labels).

Both score single transactions without sequences, as in the published comparisons. The forest
cannot read missing values, so they become 0 in fitting and in scoring. Of its columns only the
time since the last event is ever null: the card has no earlier event. Both are fitted on bounded
samples. Scoring is a pure function of an array, so that it can run in a pandas UDF.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest

NUM_TREES = 100
MISSING_VALUE = 0.0


def fit_isolation_forest(values: npt.ArrayLike, seed: int) -> IsolationForest:
    """Fit an isolation forest on feature values [N, F]; the same seed gives the same forest."""
    forest = IsolationForest(n_estimators=NUM_TREES, random_state=seed, n_jobs=1)
    return forest.fit(_fill_missing(values))


def forest_scores(forest: IsolationForest, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return anomaly scores [N] in [0, 1] of rows [N, F]; higher means more anomalous."""
    rows = _fill_missing(values)
    if len(rows) == 0:
        return np.empty(0, dtype=np.float64)
    return np.asarray(-forest.score_samples(rows), dtype=np.float64)


def fit_boosted_trees(
    values: npt.ArrayLike, frauds: npt.ArrayLike, seed: int
) -> HistGradientBoostingClassifier:
    """Fit gradient-boosted trees on feature values [N, F], NaN where missing, and labels [N].

    Trees are small, with large leaves and a low learning rate, because frauds are rare. There is
    no early stopping, so the number of trees does not depend on the rows.
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
    """Return the log odds of fraud [N] of rows [N, F]."""
    rows = np.asarray(values, dtype=np.float64)
    if len(rows) == 0:
        return np.empty(0, dtype=np.float64)
    return np.asarray(trees.decision_function(rows), dtype=np.float64)


def _fill_missing(values: npt.ArrayLike) -> npt.NDArray[Any]:
    rows = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(rows), MISSING_VALUE, rows)
