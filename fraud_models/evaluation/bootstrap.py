"""How far figures may be off by chance: resampled cards and nights, on counts per value.

Transactions of one card, and those of one night, go together: what is drawn again is therefore
cards and nights, not transactions. A card counts in replicate `b` as often as a Poisson variable
of mean 1 that follows from its id and `b` alone (a bootstrap that needs no draw from all cards at
once, so that it works wherever rows are: Chamandy et al., "Estimating Uncertainty for Massive Data
Streams", 2012); nights are drawn with replacement from the few there are.

Shapes: `N` rows, `D` nights, `B` replicates (the first is the sample itself), `V` bins of values,
rising.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NUM_REPLICATES = 200
# Of an interval: 95 %.
LOW, HIGH = 2.5, 97.5
# Cumulative probabilities of 0, 1, 2, … of a Poisson variable of mean 1; beyond 10: one in 10^7.
_POISSON = np.cumsum(np.exp(-1.0) / np.cumprod([1.0, *range(1, 11)]))
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = 0x9E3779B97F4A7C15


def card_weights(hashes: npt.NDArray[np.int64], num_replicates: int) -> npt.NDArray[np.uint8]:
    """[N] hashes of cards to [N, B] how often each counts; in the first replicate once.

    Uniform numbers are SplitMix64's of the hash and the replicate's number (Steele, Lea and Flood,
    "Fast Splittable Pseudorandom Number Generators", 2014).
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
    """[B, D] how often each of these nights is drawn; in the first replicate once.

    Other nights are drawn by chance of their own, so that weeks can be averaged.
    """
    rng = np.random.default_rng([night.toordinal() for night in nights])
    num_nights = len(nights)
    draws = rng.multinomial(num_nights, np.full(num_nights, 1 / num_nights), size=num_replicates)
    draws[0] = 1
    return draws


def roc_auc(positives: Floats, negatives: Floats) -> Floats:
    """[..., V] counts per rising bin to [...] areas; a bin's rows are ties. NaN where undefined."""
    below = np.cumsum(negatives, axis=-1) - negatives
    pairs = (positives * (below + negatives / 2)).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = pairs / (positives.sum(axis=-1) * negatives.sum(axis=-1))
    return area


def average_precision(positives: Floats, negatives: Floats) -> Floats:
    """[..., V] counts per rising bin to [...] average precisions; NaN where undefined."""
    falling = positives[..., ::-1], negatives[..., ::-1]
    found, wrong = (np.cumsum(counts, axis=-1) for counts in falling)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(found > 0, found / (found + wrong), 0.0)
        mean: Floats = (falling[0] * precision).sum(axis=-1) / positives.sum(axis=-1)
    return mean


def interval(figure: float, replicates: Sequence[float] | Floats) -> tuple[float, float] | None:
    """95 % interval in [0, 1] of a figure: its replicates around the first, which stands for it.

    Binned values give slightly other figures than exact ones, the first replicate included; what
    counts is how far the others are from it. None where fewer than half are defined.
    """
    values = np.asarray(replicates, dtype=np.float64)
    others = values[1:][np.isfinite(values[1:])]
    if not np.isfinite(values[0]) or 2 * len(others) < len(values):
        return None
    low, high = np.percentile(others, [LOW, HIGH]) - values[0]
    return max(0.0, float(figure + low)), min(1.0, float(figure + high))
