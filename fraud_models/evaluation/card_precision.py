"""Card precision at k, as pure functions on small tables: one per night, with its top cards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd


def card_precision_at_k(nights: Sequence[pd.DataFrame], k: int) -> float:
    """Return card precision at k: the fraudulent share of the k cards investigated per night.

    `nights` holds one table per night, in order, with `card_id`, `score`, `is_fraud` and
    `transaction_id`, one or more rows per card. A table may be limited to the top cards, as long
    as k cards remain after cards detected on earlier nights are removed. Cards of a night are
    ordered by their highest score, ties by the `transaction_id` with that score. The first k are
    investigated. A card with any fraud in the night is detected and removed from later nights.
    Returns the mean over nights; NaN without nights.
    """
    per_night = card_precision_per_night(nights, k)
    return float(np.mean(per_night)) if per_night else float("nan")


def resampled_card_precision(
    nights: Sequence[pd.DataFrame], k: int, weights: pd.DataFrame
) -> npt.NDArray[np.float64]:
    """Return card precision [B, D] per bootstrap replicate and night.

    `weights` has a row per `card_id` and a column per replicate: how often the card counts.
    Copies of a card beyond the k investigations of a night are not counted. A detected card is
    removed from later nights with all its copies.
    """
    row_of_card = pd.Series(np.arange(len(weights)), index=weights.index)
    counts = weights.to_numpy(dtype=np.int64)
    detected = np.zeros(counts.T.shape, dtype=bool)
    precisions = np.zeros((counts.shape[1], len(nights)))
    for number, night in enumerate(nights):
        ordered = night.sort_values(["score", "transaction_id"], ascending=[False, True])
        fraud = ordered.groupby("card_id")["is_fraud"].max().astype(bool)
        cards = ordered.drop_duplicates("card_id")["card_id"]
        card_rows, is_fraud = row_of_card[cards].to_numpy(), fraud[cards].to_numpy()
        copies = np.where(detected[:, card_rows], 0, counts[card_rows].T)
        copies_before = np.cumsum(copies, axis=1) - copies
        investigated = np.clip(k - copies_before, 0, copies)
        precisions[:, number] = (investigated * is_fraud).sum(axis=1) / k
        detected[:, card_rows] |= (investigated > 0) & is_fraud
    return precisions


def card_precision_per_night(nights: Sequence[pd.DataFrame], k: int) -> list[float]:
    """Return detected cards / k of each night, as in `card_precision_at_k`."""
    if not nights:
        return []
    cards = pd.concat(nights)["card_id"].unique()
    once = pd.DataFrame({0: 1}, index=cards)
    return [float(precision) for precision in resampled_card_precision(nights, k, once)[0]]
