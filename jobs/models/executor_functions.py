"""Functions that executors run over sorted streams with `mapInArrow`.

An executor imports the module of each function that it unpickles, so these functions have a module
of their own. It imports only what scoring needs, and neither MLflow nor Great Expectations: loading
those takes longer than scoring one executor's share of a night.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa

from feature_defs.sources import KEYS
from fraud_models.config import ModelConfig
from fraud_models.registry.scorer_cache import cached_scorer
from fraud_models.scoring.scorer import Scorer
from fraud_models.sequences.encoding import Encoding
from fraud_models.sequences.event_batch import ContextLimits, pack_contexts

Batches = Iterable[pa.RecordBatch]


@dataclass(frozen=True)
class StoredModel:
    """Folder and digest of a stored checkpoint."""

    uri: str
    sha256: str


@dataclass(frozen=True)
class ModelStream:
    """Apply a stream function of `fraud_models.scoring.scorer` with a stored model."""

    function: Callable[[Batches, Scorer, tuple[str, ...]], Iterator[pa.RecordBatch]]
    model: StoredModel

    def __call__(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        """Return the model's results for one partition, with the transactions' keys."""
        return self.function(batches, cached_scorer(self.model.uri, self.model.sha256), KEYS)


@dataclass(frozen=True)
class FeatureContribution:
    """The contribution of one feature to a score."""

    feature: str
    observed: float | None
    expected: float | None
    error: float
    """Part of the reconstruction error, in nats."""
    contribution: float
    """Share of the ranking value."""
    observed_text: str | None = None
    """The value of a category; its numbers are unset."""
    expected_text: str | None = None
    """The most likely category; unset if it is none of the frequent ones."""


@dataclass(frozen=True)
class ExplainStream:
    """Explain one target event: return a row per feature that the model reads."""

    model: StoredModel

    def __call__(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        """Return the contributions of one partition's target event."""
        scorer = cached_scorer(self.model.uri, self.model.sha256)
        names = scorer.reason_columns
        for batch in scorer.contexts(batches):
            events = scorer.score_events(batch)
            for event in range(len(events.errors)):
                observed, expected = events.observed[event], events.expected[event]
                texts = {name: item.at(event) for name, item in events.texts.items()}
                yield pa.RecordBatch.from_arrays(
                    [
                        pa.array(names, pa.string()),
                        pa.array(observed, mask=np.isnan(observed)),
                        pa.array(expected, mask=np.isnan(expected)),
                        pa.array(events.errors[event]),
                        pa.array(events.contributions[event]),
                        *(
                            pa.array([texts.get(name, (None, None))[k] for name in names], "string")
                            for k in (0, 1)
                        ),
                    ],
                    names=[item.name for item in fields(FeatureContribution)],
                )


@dataclass(frozen=True)
class PackStream:
    """Pack a sorted stream into rows of a training snapshot: one per block of a context."""

    config: ModelConfig
    encoding: Encoding
    """Fitted on the training events; its vocabularies turn categories into codes."""

    def __call__(self, batches: Batches) -> Iterator[pa.RecordBatch]:
        """Return the packed contexts of one partition."""
        limits, vocabularies = ContextLimits.from_config(self.config), self.encoding.vocabularies
        return pack_contexts(batches, self.config.columns, limits, vocabularies)
