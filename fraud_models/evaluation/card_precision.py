"""Card precision on small inputs, pure: each night's table is first cut down to its top cards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd


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


def resampled_card_precision(
    nights: Sequence[pd.DataFrame], k: int, weights: pd.DataFrame
) -> npt.NDArray[np.float64]:
    """[B, D] card precision of each night, with cards that count several times or not at all.

    `weights` has a row per `card_id` and a column per replicate: how often the card counts. What
    the k investigations of a night leave of a card's copies is not counted; a card that was
    detected is gone from later nights with all its copies.
    """
    place = pd.Series(np.arange(len(weights)), index=weights.index)
    counts = weights.to_numpy(dtype=np.int64)
    detected = np.zeros(counts.T.shape, dtype=bool)
    precisions = np.zeros((counts.shape[1], len(nights)))
    for number, night in enumerate(nights):
        ordered = night.sort_values(["score", "transaction_id"], ascending=[False, True])
        fraud = ordered.groupby("card_id")["is_fraud"].max().astype(bool)
        cards = ordered.drop_duplicates("card_id")["card_id"]
        chosen, is_fraud = place[cards].to_numpy(), fraud[cards].to_numpy()
        here = np.where(detected[:, chosen], 0, counts[chosen].T)
        before = np.cumsum(here, axis=1) - here
        looked_at = np.clip(k - before, 0, here)
        precisions[:, number] = (looked_at * is_fraud).sum(axis=1) / k
        detected[:, chosen] |= (looked_at > 0) & is_fraud
    return precisions


def card_precision_per_night(nights: Sequence[pd.DataFrame], k: int) -> list[float]:
    """Detected cards / k of each night, as in `card_precision_at_k`."""
    if not nights:
        return []
    cards = pd.concat(nights)["card_id"].unique()
    once = pd.DataFrame({0: 1}, index=cards)
    return [float(found) for found in resampled_card_precision(nights, k, once)[0]]
