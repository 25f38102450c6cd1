"""Score events of contexts in one causal pass, with reasons.

Shapes: `N` scored events, `F` feature columns, `R` reason columns (see `Scorer.reason_columns`);
`B`, `L`, `C` as in `event_batch`.

The encoder reads whole contexts; only the events to score go through the decoder and the
likelihood. Computation is in float32, except sums over columns, which are float64. Floating-point
results depend on batch shapes: scores of one event in different batches agree within 1e-5
relative.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from feature_defs.errors import FraudScoringError, UsageError
from fraud_models.config import BY_HEAD, BY_RARITY
from fraud_models.networks.fraud_head import FraudHead
from fraud_models.scoring.reasons import CARD_HISTORY, REASON_TYPE, CategoryTexts, reasons_of
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
    """[N] number of earlier events in the context of each event."""
    observed: Floats
    """[N, R] values in the units of the columns; NaN where missing, and for categories."""
    expected: Floats
    """[N, R] values that the model expects, in the same units; NaN for the card's history and for
    categories."""
    texts: Mapping[str, CategoryTexts]
    """Observed and expected values [N] of the categorical columns, by name."""
    errors: Floats
    """[N, R] nats of each column; 0 where missing."""
    contributions: Floats
    """[N, R] shares of the ranking value; they sum to it."""
    reconstruction_error: Floats
    """[N] sum of the errors of all columns, in nats."""
    ranking_value: Floats
    """[N] value that orders transactions; higher is more anomalous."""


class Scorer:
    """A loaded model that scores batches of contexts.

    It does not change the number of torch threads: Spark sets one per task, and more do not help.
    """

    def __init__(self, model: TrainedModel) -> None:
        self.model = model
        self.columns = model.encoding.columns
        self.vocabularies = model.encoding.vocabularies
        self.limits = ContextLimits.from_config(model.config)
        self._reconstructor = Reconstructor(model.config, model.encoding)
        self._reconstructor.network.load_state_dict(model.network_weights)
        self._reconstructor.eval()
        self._head = load_head(model)

    @property
    def reason_columns(self) -> tuple[str, ...]:
        """Names of the R contributions: the columns and, for a head, the card's history."""
        return (*self.columns, CARD_HISTORY) if self._head else self.columns

    def contexts(self, batches: Iterable[pa.RecordBatch]) -> Iterator[EventBatch]:
        """Yield padded batches of the contexts that the model reads, from a sorted stream.

        Raises:
            InputMissing: columns are missing; rebuild the features of these days.
            FraudScoringError: the stream is not sorted; sort it within partitions.
        """
        return iter_contexts(batches, self.columns, self.limits, self.vocabularies)

    def score_events(self, batch: EventBatch) -> ScoredEvents:
        """Score the events with role 1.

        Raises:
            FraudScoringError: a result is not finite, so check the features of the listed
                transactions; or the model ranks by rarities that are not fitted, so finish its
                training job.
        """
        sequence, step, reconstruction = self._reconstruct(batch)
        contributions = self._contributions(reconstruction)
        errors = reconstruction.errors.double().numpy()
        total, ranking = errors.sum(axis=1), contributions.sum(axis=1)
        _require_finite(total, ranking, batch, (sequence, step))
        position = batch.first_position[sequence] + step
        observed = batch.values[sequence, step].astype(np.float64)
        decoded = self.model.encoding.decode(reconstruction.location, reconstruction.likely)
        expected = decoded.double().numpy()
        texts = self._texts(batch, (sequence, step), observed, expected)
        categorical = list(self.model.encoding.categorical)
        observed[:, categorical] = expected[:, categorical] = np.nan
        # The card's history has no observed or expected value and no error.
        extra = (len(errors), len(self.reason_columns) - len(self.columns))
        undefined = np.full(extra, np.nan)
        return ScoredEvents(
            row=batch.rows[sequence, step] if batch.rows.size else position,
            num_context_events=position.astype(np.int32),
            observed=np.concatenate([observed, undefined], axis=1),
            expected=np.concatenate([expected, undefined], axis=1),
            texts=texts,
            errors=np.concatenate([errors, np.zeros(extra)], axis=1),
            contributions=contributions,
            reconstruction_error=total,
            ranking_value=ranking,
        )

    def _texts(
        self, batch: EventBatch, where: tuple[Places, Places], observed: Floats, expected: Floats
    ) -> dict[str, CategoryTexts]:
        """Return what categorical columns [N] were and were expected to be.

        The observed value is that of the stream; packed sequences hold only its code.
        """
        texts = {}
        for name, vocabulary in self.vocabularies.items():
            index = self.columns.index(name)
            if batch.source is None:
                values = vocabulary.texts(observed[:, index])
            else:
                values = batch.source.column(name).take(pa.array(batch.rows[where]))
            texts[name] = CategoryTexts(values, vocabulary.texts(expected[:, index]))
        return texts

    def target_errors(self, batch: EventBatch) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return the source rows [N] of the events with role 1 and their errors [N, F]."""
        sequence, step, reconstruction = self._reconstruct(batch)
        return batch.rows[sequence, step], reconstruction.errors.double().numpy()

    def _reconstruct(self, batch: EventBatch) -> tuple[Places, Places, Reconstruction]:
        sequence, step = np.nonzero(batch.roles == TARGET)
        with torch.no_grad():
            selected = torch.from_numpy(batch.roles == TARGET)
            reconstruction: Reconstruction = self._reconstructor(
                torch.from_numpy(batch.values), selected
            )
        return sequence, step, reconstruction

    def _contributions(self, reconstruction: Reconstruction) -> Floats:
        config, rarities = self.model.config, self.model.rarities
        if self._head:
            inputs = self._head.inputs(
                reconstruction.channels,
                reconstruction.errors,
                reconstruction.codes,
                reconstruction.categories,
            )
            shares: Floats = self._head.contributions(inputs).numpy()
            return shares
        errors: Floats = reconstruction.errors.double().numpy()
        if config.ranking == BY_RARITY:
            if rarities is None:
                raise FraudScoringError(
                    "The model ranks by rarities, but they are not fitted yet.",
                    expected="a checkpoint with the rarities of its columns' errors.",
                    remedy="finish its training job, which fits them on the validation nights.",
                )
            return rarities.contributions(errors, self.columns)
        return np.where([name in config.ranked for name in self.columns], errors, 0.0)


def load_head(model: TrainedModel) -> FraudHead | None:
    """Return the supervised head with its weights, or None if the model does not rank by one."""
    if model.config.ranking != BY_HEAD:
        return None
    head = FraudHead.from_config(model.config, model.encoding)
    head.load_state_dict(model.head_weights)
    return head.eval()


def error_stream(
    batches: Iterable[pa.RecordBatch], scorer: Scorer, passthrough: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """Yield the errors of each ranked column of a sorted event stream, to fit rarities.

    There is one row per event with role 1. Each error column has the name of its feature column.

    Raises:
        InputMissing: columns are missing; rebuild the features of these days.
        FraudScoringError: the stream is not sorted; sort it within partitions.
    """
    ranked = scorer.model.config.ranked
    for batch in scorer.contexts(batches):
        rows, errors = scorer.target_errors(batch)
        kept = _passed_through(batch, rows, passthrough)
        added = [pa.array(errors[:, scorer.columns.index(name)]) for name in ranked]
        schema = pa.schema([*kept.schema, *(pa.field(name, pa.float64()) for name in ranked)])
        yield pa.RecordBatch.from_arrays([*kept.columns, *added], schema=schema)


def ranked_schema(passthrough_schema: pa.Schema) -> pa.Schema:
    """Return the schema of `rank_stream`."""
    return pa.schema([*passthrough_schema, *RANK_FIELDS])


def scored_schema(passthrough_schema: pa.Schema) -> pa.Schema:
    """Return the schema of `score_stream`."""
    return pa.schema([*passthrough_schema, *SCORE_FIELDS])


def rank_stream(
    batches: Iterable[pa.RecordBatch], scorer: Scorer, passthrough: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """Yield errors and ranking values of a sorted event stream, to fit a calibration.

    There is one row per event with role 1. The model need not be calibrated.

    Raises:
        InputMissing: columns are missing; rebuild the features of these days.
        FraudScoringError: the stream is not sorted, so sort it within partitions; or a result is
            not finite, so check the features of the listed transactions.
    """
    for batch in scorer.contexts(batches):
        events = scorer.score_events(batch)
        kept = _passed_through(batch, events.row, passthrough)
        added = [pa.array(events.reconstruction_error), pa.array(events.ranking_value)]
        yield pa.RecordBatch.from_arrays([*kept.columns, *added], schema=ranked_schema(kept.schema))


def score_stream(
    batches: Iterable[pa.RecordBatch], scorer: Scorer, passthrough: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """Yield scores of a sorted event stream (see `event_batch`), one row per event with role 1.

    Columns are those of `passthrough`, unchanged, then those of `SCORE_FIELDS`.

    Raises:
        InputMissing: columns are missing; rebuild the features of these days.
        FraudScoringError: the model is not calibrated, so finish its training job; the stream is
            not sorted, so sort it within partitions; or a result is not finite, so check the
            features of the listed transactions.
    """
    calibration = scorer.model.require_calibration()
    for batch in scorer.contexts(batches):
        events = scorer.score_events(batch)
        kept = _passed_through(batch, events.row, passthrough)
        added = [
            pa.array(events.reconstruction_error),
            pa.array(events.ranking_value),
            pa.array(calibration.score(events.ranking_value)),
            reasons_of(
                events.contributions,
                events.observed,
                events.expected,
                scorer.reason_columns,
                events.texts,
            ),
            pa.array(events.num_context_events),
        ]
        yield pa.RecordBatch.from_arrays([*kept.columns, *added], schema=scored_schema(kept.schema))


def _passed_through(
    batch: EventBatch, row_numbers: npt.NDArray[np.int64], passthrough: tuple[str, ...]
) -> pa.RecordBatch:
    assert batch.source is not None, "only batches of a stream have a source"
    rows = pa.array(row_numbers)
    fields = [batch.source.schema.field(name) for name in passthrough]
    arrays = [batch.source.column(name).take(rows) for name in passthrough]
    if not fields:
        raise UsageError(
            "No passthrough column is given.",
            expected="at least the transaction's key.",
            remedy="name the columns that identify a scored row.",
        )
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _require_finite(
    total: Floats,
    ranking: Floats,
    batch: EventBatch,
    where: tuple[Places, Places],
) -> None:
    bad = ~(np.isfinite(total) & np.isfinite(ranking))
    if not bad.any():
        return
    examples = ""
    if batch.source is not None:
        rows = pa.array(batch.rows[where][bad][:5])
        ids = batch.source.column("transaction_id").take(rows).to_pylist()
        examples = f", among them transaction {', '.join(map(str, ids))}"
    raise FraudScoringError(
        f"{int(bad.sum())} events have an error that is not a finite number{examples}.",
        expected="a finite number of nats for every event.",
        remedy="look for infinite feature values in these cards' contexts; if there are none, "
        "the model's weights are damaged: roll back the champion.",
    )
