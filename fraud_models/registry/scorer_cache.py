"""Scorers of stored models, loaded and verified once per process."""

from __future__ import annotations

from fraud_models.registry.checkpoint import load_checkpoint
from fraud_models.scoring.scorer import Scorer

# Models by the SHA-256 of their `checkpoint.json`. Spark reuses Python workers for many tasks.
_LOADED: dict[str, Scorer] = {}


MAX_LOADED = 4


def cached_scorer(uri: str, sha256: str) -> Scorer:
    """The scorer of a checkpoint, loaded and verified once per process."""
    if sha256 not in _LOADED:
        while len(_LOADED) >= MAX_LOADED:
            del _LOADED[next(iter(_LOADED))]
        _LOADED[sha256] = Scorer(load_checkpoint(uri, sha256))
    return _LOADED[sha256]
