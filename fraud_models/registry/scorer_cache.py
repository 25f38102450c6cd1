"""Cache scorers of stored models, so that each is loaded and verified once per process.

Spark reuses Python workers for many tasks. The cache holds at most `MAX_SCORERS` and then drops
the oldest.
"""

from __future__ import annotations

from fraud_models.registry.checkpoint import load_checkpoint
from fraud_models.scoring.scorer import Scorer

MAX_SCORERS = 4

# Keyed by the SHA-256 of `checkpoint.json`.
_scorers: dict[str, Scorer] = {}


def cached_scorer(uri: str, sha256: str) -> Scorer:
    """Return the scorer of a checkpoint; load and verify it on first use in this process.

    Raises:
        InputMissing: the checkpoint is damaged or missing; restore it, or train and promote again.
    """
    if sha256 not in _scorers:
        while len(_scorers) >= MAX_SCORERS:
            del _scorers[next(iter(_scorers))]
        _scorers[sha256] = Scorer(load_checkpoint(uri, sha256))
    return _scorers[sha256]
