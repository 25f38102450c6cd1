"""One causal pass over a context: how odd is each event, and why.

Shapes: `N` scored events, `F` feature columns, `B`, `L`, `C` as in `event_batch`.

The LSTM passes over whole contexts; only events to be scored go through the decoder and the
likelihood. Everything is computed in float32 but sums over columns, which are float64. Batch
shapes change floating point: the same event scored in other company agrees within 1e-5 relative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from feature_defs.problems import Problem, UsageProblem
from fraud_models.checkpoint import Checkpoint, load_checkpoint
from fraud_models.event_batch import TARGET, ContextLimits, EventBatch, iter_contexts
from fraud_models.loss import channel_nats, feature_nats
from fraud_models.networks import build

Floats = npt.NDArray[np.float64]

NUM_REASONS = 3
REASON_TYPE = pa.struct(
    [
        pa.field("feature", pa.string()),
        pa.field("observed", pa.float64()),
        pa.field("expected", pa.float64()),
        pa.field("contribution", pa.float64()),
    ]
)
RANK_FIELDS = (
    pa.field("reconstruction_error", pa.float64()),
    pa.field("ranking_value", pa.float64()),
)
SCORE_FIELDS = (
    *RANK_FIELDS,
    pa.field("score", pa.float64()),
    pa.field("reasons", pa.list_(REASON_TYPE)),
    pa.field("num_context_events", pa.int32()),
)


def _sum_of_columns(errors: Floats) -> Floats:
    total: Floats = errors.sum(axis=1)
    return total


# What orders transactions, from the errors [N, F] of their columns.
RANKINGS: dict[str, Callable[[Floats], Floats]] = {"reconstruction_error": _sum_of_columns}


@dataclass(frozen=True)
class ScoredEvents:
    """The target events of one batch."""

    row: npt.NDArray[np.int64]
    """[N] row of the batch's source."""
    num_context_events: npt.NDArray[np.int32]
    """[N] events of the context before each one."""
    observed: Floats
    """[N, F] values in the columns' own units; NaN where missing."""
    expected: Floats
    """[N, F] what the model expected, in the same units."""
    errors: Floats
    """[N, F] nats of each column; 0 where missing."""
    reconstruction_error: Floats
    """[N] nats of all columns."""
    ranking_value: Floats
    """[N] what orders transactions."""


class Scorer:
    """A loaded model that scores batches of contexts.

    The number of torch threads stays as it is: Spark sets one per task, and more gain nothing.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.columns = checkpoint.encoding.columns
        self.limits = ContextLimits.of(checkpoint.config)
        ranking = checkpoint.config.ranking
        if ranking not in RANKINGS:
            raise UsageProblem(
                f"The model ranks by {ranking!r}.",
                expected=f"one of: {', '.join(sorted(RANKINGS))}.",
                remedy="use the version of this package that trained the model.",
            )
        self._rank = RANKINGS[ranking]
        encoding = checkpoint.encoding
        self._network = build(checkpoint.config.network, encoding.num_inputs, encoding.num_channels)
        self._network.load_state_dict(dict(checkpoint.weights))
        self._network.eval()
        self._owner = torch.tensor(encoding.channel_owner)
        self._freedom = encoding.freedom(checkpoint.config.network)

    def score_events(self, batch: EventBatch) -> ScoredEvents:
        """Score the events with role 1.

        Raises:
            Problem: a result is not finite; nothing of the batch is used.
        """
        sequence, step = np.nonzero(batch.roles == TARGET)
        encoding = self.checkpoint.encoding
        with torch.inference_mode():
            channels, present = encoding.encode(torch.from_numpy(batch.values))
            codes = self._network.encode(encoding.inputs(channels, present))
            chosen = (torch.from_numpy(sequence), torch.from_numpy(step))
            location = self._network.decode(codes[chosen])
            nats = channel_nats(channels[chosen], location, self._network.scale(), self._freedom)
            errors = feature_nats(nats, present[chosen], self._owner).double().numpy()
            expected = encoding.decode(location).double().numpy()
        total = errors.sum(axis=1)
        ranking = self._rank(errors)
        _refuse_not_finite(total, ranking, batch, (sequence, step))
        position = batch.first_position[sequence] + step
        return ScoredEvents(
            row=batch.rows[sequence, step] if batch.rows.size else position,
            num_context_events=position.astype(np.int32),
            observed=batch.values[sequence, step].astype(np.float64),
            expected=expected,
            errors=errors,
            reconstruction_error=total,
            ranking_value=ranking,
        )


def ranked_schema(passthrough_schema: pa.Schema) -> pa.Schema:
    """Columns of `rank_stream`."""
    return pa.schema([*passthrough_schema, *RANK_FIELDS])


def scored_schema(passthrough_schema: pa.Schema) -> pa.Schema:
    """Columns of `score_stream`."""
    return pa.schema([*passthrough_schema, *SCORE_FIELDS])


def rank_stream(
    batches: Iterable[pa.RecordBatch], scorer: Scorer, passthrough: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """Errors and ranking values of a sorted event stream: what a calibration is fitted on.

    One row per event with role 1; works with a model that is not calibrated yet.

    Raises:
        InputMissing: columns are missing. Problem: unsorted, or a result is not finite.
    """
    for batch in iter_contexts(batches, scorer.columns, scorer.limits):
        events = scorer.score_events(batch)
        kept = _passed_through(batch, events, passthrough)
        added = [pa.array(events.reconstruction_error), pa.array(events.ranking_value)]
        yield pa.RecordBatch.from_arrays([*kept.columns, *added], schema=ranked_schema(kept.schema))


def score_stream(
    batches: Iterable[pa.RecordBatch], scorer: Scorer, passthrough: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """Scores of a sorted event stream (see `event_batch`): one row per event with role 1.

    The columns `passthrough` come back as they were, then those of `SCORE_FIELDS`.

    Raises:
        InputMissing: columns are missing. Problem: the model is not calibrated, the stream is
            unsorted, or a result is not finite.
    """
    calibration = scorer.checkpoint.calibration
    if calibration is None:
        raise Problem(
            "The model is not calibrated, so it can rank but not score.",
            expected="a checkpoint with a calibration.",
            remedy="finish its training job, which calibrates it on the validation nights.",
        )
    for batch in iter_contexts(batches, scorer.columns, scorer.limits):
        events = scorer.score_events(batch)
        kept = _passed_through(batch, events, passthrough)
        added = [
            pa.array(events.reconstruction_error),
            pa.array(events.ranking_value),
            pa.array(calibration.score(events.ranking_value)),
            reasons_of(events, scorer.columns),
            pa.array(events.num_context_events),
        ]
        yield pa.RecordBatch.from_arrays([*kept.columns, *added], schema=scored_schema(kept.schema))


def reasons_of(events: ScoredEvents, columns: tuple[str, ...]) -> pa.Array:
    """[N] lists of the (at most 3) columns with the largest contributions, largest first."""
    num_events = len(events.row)
    num_reasons = min(NUM_REASONS, len(columns))
    # Stable, so that equal contributions keep the columns' order.
    top = np.argsort(-events.errors, axis=1, kind="stable")[:, :num_reasons]
    names = pa.array(columns, type=pa.string()).take(pa.array(top.ravel()))
    observed = np.take_along_axis(events.observed, top, axis=1).ravel()
    expected = np.take_along_axis(events.expected, top, axis=1).ravel()
    contribution = np.take_along_axis(events.errors, top, axis=1).ravel()
    items = pa.StructArray.from_arrays(
        [
            names,
            pa.array(observed, mask=np.isnan(observed)),
            pa.array(expected),
            pa.array(contribution),
        ],
        fields=list(REASON_TYPE),
    )
    offsets = np.arange(num_events + 1, dtype=np.int32) * num_reasons
    return pa.ListArray.from_arrays(pa.array(offsets), items, type=pa.list_(REASON_TYPE))


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


def _passed_through(
    batch: EventBatch, events: ScoredEvents, passthrough: tuple[str, ...]
) -> pa.RecordBatch:
    assert batch.source is not None, "only streams have passthrough columns"
    rows = pa.array(events.row)
    fields = [batch.source.schema.field(name) for name in passthrough]
    arrays = [batch.source.column(name).take(rows) for name in passthrough]
    if not fields:
        raise UsageProblem(
            "No column is to be passed through.",
            expected="at least the transaction's key.",
            remedy="name the columns that identify a scored row.",
        )
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _refuse_not_finite(
    total: Floats,
    ranking: Floats,
    batch: EventBatch,
    where: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]],
) -> None:
    bad = ~(np.isfinite(total) & np.isfinite(ranking))
    if not bad.any():
        return
    named = ""
    if batch.source is not None:
        rows = pa.array(batch.rows[where][bad][:5])
        ids = batch.source.column("transaction_id").take(rows).to_pylist()
        named = f", among them transaction {', '.join(map(str, ids))}"
    raise Problem(
        f"{int(bad.sum())} events have a reconstruction error that is not a finite number{named}.",
        expected="a finite number of nats for every event.",
        remedy="look for infinite feature values in these cards' contexts; if there are none, "
        "the model's weights are broken: roll the champion back.",
    )
