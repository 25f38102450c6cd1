"""Bootstrap intervals of metrics: resampled cards and nights, on counts per score bin.

Transactions of one card, and of one night, are correlated. The bootstrap therefore resamples cards
and nights, not transactions. A card counts in replicate `b` as often as a Poisson variable of mean
1 that depends only on the card id and `b` (Poisson bootstrap: it needs no joint draw over all
cards, so it runs wherever the rows are; Chamandy et al., "Estimating Uncertainty for Massive Data
Streams", 2012). Nights are few and are drawn with replacement.

Shapes: `N` rows, `D` nights, `B` replicates (the first is the sample itself), `V` score bins in
rising order.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NUM_REPLICATES = 200
# Percentiles of a 95 % interval.
LOW, HIGH = 2.5, 97.5
# Cumulative probabilities of 0, 1, 2, … of a Poisson variable of mean 1. A value above 10 has a
# probability of one in 10^8.
_POISSON = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 11)]))
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = 0x9E3779B97F4A7C15


def card_weights(hashes: npt.NDArray[np.int64], num_replicates: int) -> npt.NDArray[np.uint8]:
    """Return how often each card counts per replicate, [N, B], from the cards' hashes [N].

    In the first replicate each card counts once. The uniform numbers are SplitMix64 of the hash
    and the number of the replicate (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
    Generators", 2014).
    """
    steps = np.array([(_STEP * b) % 2**64 for b in range(num_replicates)], dtype=np.uint64)
    mixed = hashes.astype(np.uint64)[:, None] + steps[None, :]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[1]
    mixed ^= mixed >> np.uint64(31)
    uniform = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    drawn = np.searchsorted(_POISSON, uniform, side="right")
    weights: npt.NDArray[np.uint8] = drawn.astype(np.uint8)
    weights[:, 0] = 1
    return weights


def night_weights(nights: Sequence[date], num_replicates: int) -> npt.NDArray[np.int64]:
    """Return how often each night is drawn per replicate, [B, D]; in the first replicate once.

    The draw is seeded by the nights, so different weeks are drawn independently and their
    replicates can be averaged.
    """
    rng = np.random.default_rng([night.toordinal() for night in nights])
    num_nights = len(nights)
    draws = rng.multinomial(num_nights, np.full(num_nights, 1 / num_nights), size=num_replicates)
    draws[0] = 1
    return draws


def roc_auc(positives: Floats, negatives: Floats) -> Floats:
    """Return ROC AUC [...] of counts per rising bin [..., V]; rows of a bin are ties.

    NaN where it is undefined.
    """
    below = np.cumsum(negatives, axis=-1) - negatives
    pairs = (positives * (below + negatives / 2)).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = pairs / (positives.sum(axis=-1) * negatives.sum(axis=-1))
    return area


def average_precision(positives: Floats, negatives: Floats) -> Floats:
    """Return average precision [...] of counts per rising bin [..., V]; NaN where undefined."""
    falling = positives[..., ::-1], negatives[..., ::-1]
    true, false = (np.cumsum(counts, axis=-1) for counts in falling)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(true > 0, true / (true + false), 0.0)
        mean: Floats = (falling[0] * precision).sum(axis=-1) / positives.sum(axis=-1)
    return mean


def interval(metric: float, replicates: Sequence[float] | Floats) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of a metric in [0, 1], or None.

    Replicates come from binned scores and differ slightly from the exact `metric`. Their distances
    from the first replicate, the sample itself, are therefore added to `metric`. None if the metric
    is undefined in the first replicate or in more than half of all replicates.
    """
    values = np.asarray(replicates, dtype=np.float64)
    others = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or 2 * len(others) < len(values):
        return None
    low, high = np.percentile(others, [LOW, HIGH]) - values[0]
    return max(0.0, float(metric + low)), min(1.0, float(metric + high))
