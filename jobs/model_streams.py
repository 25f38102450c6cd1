"""What executors run over sorted streams: a stored model that each worker loads once.

A module of its own: an executor that unpickles its class imports what scoring needs, and neither
the registry nor the gates, whose libraries take longer to import than a night's share takes to
score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from feature_defs.sources import KEYS
from fraud_models.scoring import Scorer, cached_scorer

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class StoredModel:
    """A checkpoint in its folder."""

    uri: str
    sha256: str


@dataclass(frozen=True)
class ModelStream:
    """Maps a sorted stream: one of `fraud_models.scoring`'s streams with a stored model."""

    function: Callable[[Batches, Scorer, tuple[str, ...]], Iterator[pa.RecordBatch]]
    model: StoredModel

    def __call__(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        """What the model says of one partition, with the transactions' keys."""
        return self.function(batches, cached_scorer(self.model.uri, self.model.sha256), KEYS)
