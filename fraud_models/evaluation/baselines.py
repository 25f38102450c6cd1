"""Baselines that a model must beat: an isolation forest (no labels) and boosted trees (labels).

Both score single transactions without sequences, as in the published comparisons. The forest
cannot read missing values, so they become 0 in fitting and in scoring. Both are fitted on bounded
samples. Scoring is a pure function of an array, so that it can run in a pandas UDF.

Both read categories as their codes in the model's vocabulary (`sequences/vocabulary.py`). Codes
ascend with falling frequency, so for the forest a high code is a rare value, which few splits
isolate; a missing one gets the code -1. The trees split them as categories, without an order. They
have at most 255 classes, so rarer codes become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest

NUM_TREES = 100
MISSING_VALUE, MISSING_CODE = 0.0, -1.0
# The trees' implementation accepts 255 different codes.
GREATEST_CODE = 254


def fit_isolation_forest(
    values: npt.ArrayLike, seed: int, categorical: Sequence[int] = ()
) -> IsolationForest:
    """Fit an isolation forest on feature values [N, F]; the same seed gives the same forest.

    `categorical` are the indices of the columns that hold codes.
    """
    forest = IsolationForest(n_estimators=NUM_TREES, random_state=seed, n_jobs=1)
    return forest.fit(_fill_missing(values, categorical))


def forest_scores(
    forest: IsolationForest, values: npt.ArrayLike, categorical: Sequence[int] = ()
) -> npt.NDArray[np.float64]:
    """Return anomaly scores [N] in [0, 1] of rows [N, F]; higher means more anomalous."""
    rows = _fill_missing(values, categorical)
    if len(rows) == 0:
        return np.empty(0, dtype=np.float64)
    return np.asarray(-forest.score_samples(rows), dtype=np.float64)


def fit_boosted_trees(
    values: npt.ArrayLike, frauds: npt.ArrayLike, seed: int, categorical: Sequence[int] = ()
) -> HistGradientBoostingClassifier:
    """Fit gradient-boosted trees on feature values [N, F], NaN where missing, and labels [N].

    `categorical` are the indices of the columns that hold codes.

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
        categorical_features=list(categorical) or None,
    )
    return trees.fit(_limit_codes(values, categorical), np.asarray(frauds, dtype=bool))


def boosted_scores(
    trees: HistGradientBoostingClassifier, values: npt.ArrayLike, categorical: Sequence[int] = ()
) -> npt.NDArray[np.float64]:
    """Return the log odds of fraud [N] of rows [N, F]."""
    rows = _limit_codes(values, categorical)
    if len(rows) == 0:
        return np.empty(0, dtype=np.float64)
    return np.asarray(trees.decision_function(rows), dtype=np.float64)


def _fill_missing(values: npt.ArrayLike, categorical: Sequence[int]) -> npt.NDArray[Any]:
    rows = np.asarray(values, dtype=np.float64)
    filling = np.full(rows.shape[-1], MISSING_VALUE)
    filling[list(categorical)] = MISSING_CODE
    return np.where(np.isnan(rows), filling, rows)


def _limit_codes(values: npt.ArrayLike, categorical: Sequence[int]) -> npt.NDArray[Any]:
    rows = np.array(values, dtype=np.float64)
    rows[:, list(categorical)] = np.minimum(rows[:, list(categorical)], GREATEST_CODE)
    return rows
