"""Scoring: causal, independent of batches, with contributions and reasons that add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from feature_defs.errors import FraudScoringError, InputMissing
from fraud_models.config import BY_RARITY
from fraud_models.registry.checkpoint import save_checkpoint
from fraud_models.registry.scorer_cache import cached_scorer
from fraud_models.scoring.scorer import (
    Scorer,
    error_stream,
    rank_stream,
    score_stream,
    scored_schema,
)
from fraud_models.scoring.trained_model import TrainedModel
from fraud_models.sequences.event_batch import iter_contexts
from tests.fraud_models.conftest import COLUMNS, LIMITS, make_stream, ranking_by, split

KEEP = ("transaction_id", "card_id", "event_time")
LENGTHS = [1, 3, 70, 16, 17, 5, 33, 2]


def scored(model: TrainedModel, batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(score_stream(iter(batches), Scorer(model), KEEP))
    return table.sort_by("transaction_id")


def test_each_target_is_scored_once_with_passthrough_columns(model: TrainedModel) -> None:
    stream = make_stream(LENGTHS)
    table = scored(model, [stream])
    targets = stream.filter(pc.equal(stream.column("role"), 1))
    expected = pa.Table.from_batches([targets]).select(KEEP).sort_by("transaction_id")
    assert table.select(KEEP).equals(expected.combine_chunks())
    assert table.schema == scored_schema(pa.schema([stream.schema.field(name) for name in KEEP]))
    assert pc.all(pc.less(table["score"], 1.0)).as_py()


def test_scores_are_independent_of_the_batch(any_model: TrainedModel) -> None:
    stream = make_stream(LENGTHS)
    alone = replace(
        any_model,
        config=replace(
            any_model.config,
            optimisation=replace(any_model.config.optimisation, events_per_batch=1),
        ),
    )
    together = scored(any_model, [stream])
    apart = scored(alone, list(split(stream, [3, 11, 40, 80, 81])))
    for name in ("reconstruction_error", "ranking_value", "score"):
        np.testing.assert_allclose(together[name], apart[name], rtol=1e-5)
    assert together["num_context_events"].equals(apart["num_context_events"])


def test_later_events_do_not_change_earlier_scores(any_model: TrainedModel) -> None:
    stream = make_stream([12])
    roles = pa.array(np.ones(12, dtype=np.int32))
    columns = dict(zip(stream.schema.names, stream.columns, strict=True))
    before = pa.RecordBatch.from_pydict({**columns, "role": roles})
    amount = np.array(columns["transaction_amount"].to_pylist(), dtype=float)
    amount[8:] = 99_999.0
    changed = {**columns, "role": roles, "transaction_amount": pa.array(amount, from_pandas=True)}
    first = scored(any_model, [before])
    second = scored(any_model, [pa.RecordBatch.from_pydict(changed)])
    errors = [t["reconstruction_error"].to_numpy() for t in (first, second)]
    assert np.array_equal(errors[0][:8], errors[1][:8])
    assert not np.isclose(errors[0][8:], errors[1][8:]).any()


def test_earlier_events_change_later_scores(any_model: TrainedModel) -> None:
    stream = make_stream([12])
    columns = dict(zip(stream.schema.names, stream.columns, strict=True))
    amount = np.array(columns["transaction_amount"].to_pylist(), dtype=float)
    amount[0] = 99_999.0
    changed = {**columns, "transaction_amount": pa.array(amount, from_pandas=True)}
    first = scored(any_model, [stream])["reconstruction_error"].to_numpy()
    second = scored(any_model, [pa.RecordBatch.from_pydict(changed)])["reconstruction_error"]
    assert not np.array_equal(first, second.to_numpy())


def test_contributions_sum_to_the_ranking_value(any_model: TrainedModel) -> None:
    scorer = Scorer(any_model)
    for batch in iter_contexts([make_stream([40], missing=0.3)], COLUMNS, LIMITS):
        events = scorer.score_events(batch)
        np.testing.assert_allclose(events.errors.sum(axis=1), events.reconstruction_error)
        np.testing.assert_allclose(
            events.contributions.sum(axis=1), events.ranking_value, rtol=1e-12, atol=1e-12
        )
        missing = np.isnan(events.observed)
        assert (events.errors[missing] == 0).all() and (events.errors >= 0).all()
        of_columns = missing[:, : len(COLUMNS)]
        assert (events.contributions[:, : len(COLUMNS)][of_columns] == 0).all()


def test_reasons_are_the_largest_contributions(any_model: TrainedModel) -> None:
    stream = make_stream([40], missing=0.3)
    scorer = Scorer(any_model)
    table = scored(any_model, [stream]).to_pylist()
    by_id = {}
    for batch in iter_contexts([stream], COLUMNS, LIMITS):
        events = scorer.score_events(batch)
        assert batch.source is not None
        ids = batch.source.column("transaction_id").take(pa.array(events.row)).to_pylist()
        by_id.update(zip(ids, events.contributions, strict=True))
    source = {row["transaction_id"]: row for row in stream.to_pylist()}
    assert table
    for row in table:
        shares = by_id[row["transaction_id"]]
        largest = sorted((share for share in shares if share > 0), reverse=True)[:3]
        found = [reason["contribution"] for reason in row["reasons"]]
        np.testing.assert_allclose(found, largest, rtol=1e-4, atol=1e-7)
        for reason in row["reasons"]:
            value = source[row["transaction_id"]].get(reason["feature"])
            assert (reason["observed"] is None) == (value is None)
            if value is not None:
                assert reason["observed"] == pytest.approx(value, rel=1e-6)


def test_ranking_with_unfitted_rarities_is_rejected(model: TrainedModel) -> None:
    by_rarity = ranking_by(BY_RARITY, model)
    bare = Scorer(replace(by_rarity, rarities=None))
    stream = make_stream(LENGTHS)
    with pytest.raises(FraudScoringError, match="rarities, but they are not fitted"):
        list(rank_stream([stream], bare, KEEP))
    errors = pa.Table.from_batches(error_stream([stream], bare, KEEP)).sort_by("transaction_id")
    assert errors.column_names == [*KEEP, *by_rarity.config.ranked]
    assert errors.num_rows == scored(by_rarity, [stream]).num_rows


def test_context_events_count_from_the_start_of_the_context(model: TrainedModel) -> None:
    stream = make_stream([70])
    for row in scored(model, [stream]).to_pylist():
        assert row["num_context_events"] == int(row["transaction_id"][3:])


def test_uncalibrated_model_ranks_but_does_not_score(model: TrainedModel) -> None:
    stream = make_stream(LENGTHS)
    scorer = Scorer(replace(model, calibration=None))
    ranked = pa.Table.from_batches(rank_stream([stream], scorer, KEEP)).sort_by("transaction_id")
    full = scored(model, [stream])
    assert ranked["ranking_value"].equals(full["ranking_value"])
    with pytest.raises(FraudScoringError, match="not calibrated"):
        list(score_stream([stream], scorer, KEEP))


def test_non_finite_result_is_rejected(model: TrainedModel) -> None:
    broken = {name: torch.full_like(w, torch.nan) for name, w in model.weights.items()}
    with pytest.raises(FraudScoringError, match="not a finite number, among them transaction tx-"):
        scored(replace(model, weights=broken), [make_stream([5])])


def test_missing_feature_column_is_rejected_by_name(model: TrainedModel) -> None:
    stream = make_stream([5])
    kept = [name for name in stream.schema.names if name != "card_count_7d"]
    with pytest.raises(InputMissing, match="card_count_7d"):
        scored(model, [stream.select(kept)])


def test_cached_scorer_is_loaded_once(model: TrainedModel, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    uri = str(tmp_path_factory.mktemp("cached"))
    digest = save_checkpoint(uri, model)
    assert cached_scorer(uri, digest) is cached_scorer(uri, digest)
