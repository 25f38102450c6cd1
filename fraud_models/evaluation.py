"""Card precision on small inputs, pure: each night's table is first cut down to its top cards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
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
