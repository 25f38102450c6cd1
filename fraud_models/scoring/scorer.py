"""One causal pass over a context: how odd is each event, and why.

Shapes: `N` scored events, `F` feature columns, `B`, `L`, `C` as in `event_batch`.

The encoder passes over whole contexts; only events to be scored go through the decoder and the
likelihood. Everything is computed in float32 but sums over columns, which are float64. Batch
shapes change floating point: the same event scored in other company agrees within 1e-5 relative.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from feature_defs.errors import FraudScoringError, UsageError
from fraud_models.config import BY_HEAD, BY_RARITY
from fraud_models.networks.fraud_head import FraudHead
from fraud_models.scoring.reasons import CARD_HISTORY, REASON_TYPE, reasons_of
from fraud_models.scoring.reconstruction import Reconstruction, Reconstructor
from fraud_models.scoring.trained_model import TrainedModel
from fraud_models.sequences.event_batch import TARGET, ContextLimits, EventBatch, iter_contexts

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]

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


@dataclass(frozen=True)
class ScoredEvents:
    """The target events of one batch."""

    row: npt.NDArray[np.int64]
    """[N] row of the batch's source."""
    num_context_events: npt.NDArray[np.int32]
    """[N] events of the context before each one."""
    observed: Floats
    """[N, R] values in the columns' own units; NaN where missing."""
    expected: Floats
    """[N, R] what the model expected, in the same units; NaN where it expects nothing."""
    errors: Floats
    """[N, R] nats of each column; 0 where missing."""
    contributions: Floats
    """[N, R] shares of the ranking value, which they sum to."""
    reconstruction_error: Floats
    """[N] nats of all columns."""
    ranking_value: Floats
    """[N] what orders transactions."""


class Scorer:
    """A loaded model that scores batches of contexts.

    The number of torch threads stays as it is: Spark sets one per task, and more gain nothing.
    """

    def __init__(self, checkpoint: TrainedModel) -> None:
        self.checkpoint = checkpoint
        self.columns = checkpoint.encoding.columns
        self.limits = ContextLimits.of(checkpoint.config)
        self._reconstructor = Reconstructor(checkpoint.config, checkpoint.encoding)
        self._reconstructor.network.load_state_dict(checkpoint.network_weights)
        self._reconstructor.eval()
        self._head = head_of(checkpoint)

    @property
    def reason_columns(self) -> tuple[str, ...]:
        """Names of the R things that contributions are of: columns, and the history for a head."""
        return (*self.columns, CARD_HISTORY) if self._head else self.columns

    def score_events(self, batch: EventBatch) -> ScoredEvents:
        """Score the events with role 1.

        Raises:
            FraudScoringError: a result is not finite; nothing of the batch is used. The model ranks by
                rarities that were not fitted.
        """
        sequence, step, found = self._reconstruct(batch)
        contributions = self._contributions(found)
        errors = found.errors.double().numpy()
        total, ranking = errors.sum(axis=1), contributions.sum(axis=1)
        _refuse_not_finite(total, ranking, batch, (sequence, step))
        position = batch.first_position[sequence] + step
        observed = batch.values[sequence, step].astype(np.float64)
        expected = self.checkpoint.encoding.decode(found.location).double().numpy()
        # What is no column was not seen, is not expected and has no error.
        beside = (len(errors), len(self.reason_columns) - len(self.columns))
        nothing = np.full(beside, np.nan)
        return ScoredEvents(
            row=batch.rows[sequence, step] if batch.rows.size else position,
            num_context_events=position.astype(np.int32),
            observed=np.concatenate([observed, nothing], axis=1),
            expected=np.concatenate([expected, nothing], axis=1),
            errors=np.concatenate([errors, np.zeros(beside)], axis=1),
            contributions=contributions,
            reconstruction_error=total,
            ranking_value=ranking,
        )

    def errors_of(self, batch: EventBatch) -> tuple[npt.NDArray[np.int64], Floats]:
        """[N] rows of the batch's source with role 1 and [N, F] their errors: no ranking yet."""
        sequence, step, found = self._reconstruct(batch)
        return batch.rows[sequence, step], found.errors.double().numpy()

    def _reconstruct(self, batch: EventBatch) -> tuple[Places, Places, Reconstruction]:
        sequence, step = np.nonzero(batch.roles == TARGET)
        with torch.no_grad():
            chosen = torch.from_numpy(batch.roles == TARGET)
            found: Reconstruction = self._reconstructor(torch.from_numpy(batch.values), chosen)
        return sequence, step, found

    def _contributions(self, found: Reconstruction) -> Floats:
        config, rarities = self.checkpoint.config, self.checkpoint.rarities
        if self._head:
            inputs = self._head.inputs(found.channels, found.errors, found.codes)
            shares: Floats = self._head.contributions(inputs).numpy()
            return shares
        errors: Floats = found.errors.double().numpy()
        if config.ranking == BY_RARITY:
            if rarities is None:
                raise FraudScoringError(
                    "The model ranks by rarities and has none yet.",
                    expected="a checkpoint with the rarities of its columns' errors.",
                    remedy="finish its training job, which fits them on the validation nights.",
                )
            return rarities.contributions(errors, self.columns)
        return np.where([name in config.ranked for name in self.columns], errors, 0.0)


def head_of(checkpoint: TrainedModel) -> FraudHead | None:
    """The supervised head of a model that ranks by one."""
    if checkpoint.config.ranking != BY_HEAD:
        return None
    head = FraudHead.of(checkpoint.config, checkpoint.encoding)
    head.load_state_dict(checkpoint.head_weights)
    return head.eval()


def error_stream(
    batches: Iterable[pa.RecordBatch], scorer: Scorer, passthrough: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """Errors of each ranked column of a sorted event stream: what rarities are fitted on.

    One row per event with role 1; the columns of errors are called as those they are of.

    Raises:
        InputMissing: columns are missing. FraudScoringError: unsorted.
    """
    ranked = scorer.checkpoint.config.ranked
    for batch in iter_contexts(batches, scorer.columns, scorer.limits):
        rows, errors = scorer.errors_of(batch)
        kept = _passed_through(batch, rows, passthrough)
        added = [pa.array(errors[:, scorer.columns.index(name)]) for name in ranked]
        schema = pa.schema([*kept.schema, *(pa.field(name, pa.float64()) for name in ranked)])
        yield pa.RecordBatch.from_arrays([*kept.columns, *added], schema=schema)


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
        InputMissing: columns are missing. FraudScoringError: unsorted, or a result is not finite.
    """
    for batch in iter_contexts(batches, scorer.columns, scorer.limits):
        events = scorer.score_events(batch)
        kept = _passed_through(batch, events.row, passthrough)
        added = [pa.array(events.reconstruction_error), pa.array(events.ranking_value)]
        yield pa.RecordBatch.from_arrays([*kept.columns, *added], schema=ranked_schema(kept.schema))


def score_stream(
    batches: Iterable[pa.RecordBatch], scorer: Scorer, passthrough: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """Scores of a sorted event stream (see `event_batch`): one row per event with role 1.

    The columns `passthrough` come back as they were, then those of `SCORE_FIELDS`.

    Raises:
        InputMissing: columns are missing. FraudScoringError: the model is not calibrated, the stream is
            unsorted, or a result is not finite.
    """
    calibration = scorer.checkpoint.require_calibration()
    for batch in iter_contexts(batches, scorer.columns, scorer.limits):
        events = scorer.score_events(batch)
        kept = _passed_through(batch, events.row, passthrough)
        added = [
            pa.array(events.reconstruction_error),
            pa.array(events.ranking_value),
            pa.array(calibration.score(events.ranking_value)),
            reasons_of(
                events.contributions, events.observed, events.expected, scorer.reason_columns
            ),
            pa.array(events.num_context_events),
        ]
        yield pa.RecordBatch.from_arrays([*kept.columns, *added], schema=scored_schema(kept.schema))


def _passed_through(
    batch: EventBatch, chosen: npt.NDArray[np.int64], passthrough: tuple[str, ...]
) -> pa.RecordBatch:
    assert batch.source is not None, "only streams have passthrough columns"
    rows = pa.array(chosen)
    fields = [batch.source.schema.field(name) for name in passthrough]
    arrays = [batch.source.column(name).take(rows) for name in passthrough]
    if not fields:
        raise UsageError(
            "No column is to be passed through.",
            expected="at least the transaction's key.",
            remedy="name the columns that identify a scored row.",
        )
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _refuse_not_finite(
    total: Floats,
    ranking: Floats,
    batch: EventBatch,
    where: tuple[Places, Places],
) -> None:
    bad = ~(np.isfinite(total) & np.isfinite(ranking))
    if not bad.any():
        return
    named = ""
    if batch.source is not None:
        rows = pa.array(batch.rows[where][bad][:5])
        ids = batch.source.column("transaction_id").take(rows).to_pylist()
        named = f", among them transaction {', '.join(map(str, ids))}"
    raise FraudScoringError(
        f"{int(bad.sum())} events have a reconstruction error that is not a finite number{named}.",
        expected="a finite number of nats for every event.",
        remedy="look for infinite feature values in these cards' contexts; if there are none, "
        "the model's weights are broken: roll the champion back.",
    )
