"""Figures on small inputs, pure: ranking quality of a score against mature labels.

Large tables are first reduced where they are (distinct scores with cumulative counts, top cards
per night) and come here small.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

Counts = npt.ArrayLike


def average_precision(true_positives: Counts, false_positives: Counts) -> float:
    """Area under the precision-recall steps.

    Both arrays hold cumulative counts at each distinct score, by falling score: all rows with at
    least that score. NaN when there is no fraud.

    >>> average_precision([1, 1, 2], [0, 1, 1])
    0.8333333333333333
    """
    tp, fp = _counts(true_positives), _counts(false_positives)
    if len(tp) == 0 or tp[-1] == 0:
        return float("nan")
    precision = tp / (tp + fp)
    recall_steps = np.diff(tp, prepend=0.0) / tp[-1]
    return float(np.sum(precision * recall_steps))


def roc_auc(true_positives: Counts, false_positives: Counts) -> float:
    """Probability that a fraud scores above a genuine event, ties counted half.

    Takes the same arrays as `average_precision`. NaN unless there are both kinds.

    >>> roc_auc([1, 1, 2], [0, 1, 1])
    0.5
    """
    tp, fp = _counts(true_positives), _counts(false_positives)
    if len(tp) == 0 or tp[-1] == 0 or fp[-1] == 0:
        return float("nan")
    below = np.concatenate(([0.0], tp[:-1]))
    area = np.sum(np.diff(fp, prepend=0.0) * (tp + below) / 2)
    return float(area / (tp[-1] * fp[-1]))


def cumulative_counts(
    scores: npt.ArrayLike, is_fraud: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cumulative (frauds, genuine) at each distinct score, by falling score."""
    values = np.asarray(scores, dtype=np.float64)
    fraud = np.asarray(is_fraud, dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True) if len(values) else np.empty(0, dtype=bool)
    return np.cumsum(fraud[order])[last], np.cumsum(1 - fraud[order])[last]


def card_precision_at_k(nights: Sequence[pd.DataFrame], k: int) -> float:
    """Card precision at k: the share of k investigated cards per night that are fraudulent.

    One table per night, in order: `card_id`, `score`, `is_fraud`, `transaction_id`, one or more
    rows per card; it may be limited to the top cards as long as k are left after those that were
    detected earlier are gone. Per night cards are ordered by their highest score, ties by the
    `transaction_id` that reached it. The first k are investigated; a card with any fraud in the
    night is detected, and gone from later nights. Mean over nights; NaN without nights.
    """
    per_night = card_precision_per_night(nights, k)
    return float(np.mean(per_night)) if per_night else float("nan")


def card_precision_per_night(nights: Sequence[pd.DataFrame], k: int) -> list[float]:
    """Detected cards / k of each night, as in `card_precision_at_k`."""
    detected: set[str] = set()
    precisions: list[float] = []
    for night in nights:
        rows = night[~night["card_id"].isin(detected)]
        ordered = rows.sort_values(["score", "transaction_id"], ascending=[False, True])
        top = ordered.drop_duplicates("card_id").head(k)["card_id"]
        frauds = rows.loc[rows["is_fraud"].astype(bool), "card_id"]
        found = set(top) & set(frauds)
        detected |= found
        precisions.append(len(found) / k)
    return precisions


def _counts(values: Counts) -> npt.NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
