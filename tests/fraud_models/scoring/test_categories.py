"""Categorical columns in scoring: likelihood, contributions, reasons, causality."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from feature_defs.errors import FraudScoringError
from fraud_models.config import BY_ERROR, BY_HEAD, RANKINGS
from fraud_models.networks import ARCHITECTURES, build
from fraud_models.scoring.likelihood import category_nats
from fraud_models.scoring.scorer import ScoredEvents, Scorer, score_stream
from fraud_models.scoring.trained_model import TrainedModel
from fraud_models.sequences.event_batch import TARGET, EventBatch, iter_contexts, pack_contexts
from tests.fraud_models.category_model import (
    CATEGORY_COLUMNS,
    CHANNEL,
    PLACE,
    PLACES,
    VOCABULARIES,
    category_model,
    category_stream,
    randomised,
)
from tests.fraud_models.conftest import LIMITS, split

KEEP = ("transaction_id",)
CATEGORICAL = [CATEGORY_COLUMNS.index(name) for name in (PLACE, CHANNEL)]


@pytest.fixture(params=RANKINGS)
def model(request: pytest.FixtureRequest) -> TrainedModel:
    """Return a model that reads categories, with each kind of ranking."""
    return category_model(request.param)


def scored(model: TrainedModel, batches: list[pa.RecordBatch]) -> pa.Table:
    table = pa.Table.from_batches(score_stream(iter(batches), Scorer(model), KEEP))
    return table.sort_by("transaction_id")


def with_values(stream: pa.RecordBatch, **changed: list[object]) -> pa.RecordBatch:
    columns = dict(zip(stream.schema.names, stream.columns, strict=True))
    arrays = {name: pa.array(values, columns[name].type) for name, values in changed.items()}
    return pa.RecordBatch.from_pydict({**columns, **arrays})


def all_targets(length: int) -> pa.RecordBatch:
    return with_values(category_stream([length]), role=[TARGET] * length)


def events_of(model: TrainedModel, stream: pa.RecordBatch) -> ScoredEvents:
    scorer = Scorer(model)
    (batch,) = scorer.contexts([stream])
    return scorer.score_events(batch)


def test_nats_are_ratios_of_probabilities_and_add_up_to_the_log_softmax() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = 3 * torch.randn(50, 7, generator=generator, dtype=torch.float64)
    codes = torch.stack([torch.arange(50) % 4, torch.arange(50) % 3], dim=-1)
    nats, peaks, likely = category_nats(logits, codes, (4, 3), 1e-12)
    for k, part in enumerate(logits.split([4, 3], dim=-1)):
        exact = -part.log_softmax(dim=-1)
        torch.testing.assert_close(
            nats[:, k] + peaks[:, k], exact.gather(-1, codes[:, k : k + 1])[:, 0]
        )
        assert likely[:, k].equal(part.argmax(dim=-1))
        assert (nats[:, k] >= 0).all()
        assert ((nats[:, k] == 0) == (codes[:, k] == likely[:, k])).all()


def test_error_of_an_impossible_category_is_bounded_by_the_floor() -> None:
    logits = torch.tensor([[500.0, -500.0, 0.0]])
    nats, *_ = category_nats(logits, torch.tensor([[1]]), (3,), 1e-3)
    assert nats.item() == pytest.approx(np.log(1 + 3 * 0.999 / 0.001), rel=1e-4)


def test_contributions_sum_to_the_ranking_value(model: TrainedModel) -> None:
    events = events_of(model, all_targets(15))
    np.testing.assert_allclose(events.errors.sum(axis=1), events.reconstruction_error)
    np.testing.assert_allclose(
        events.contributions.sum(axis=1), events.ranking_value, rtol=1e-12, atol=1e-12
    )
    assert (events.errors[:, CATEGORICAL] > 0).any(axis=0).all()
    assert np.isnan(events.observed[:, CATEGORICAL]).all()
    assert np.isnan(events.expected[:, CATEGORICAL]).all()


def test_missing_category_costs_exactly_nothing_and_has_no_share(model: TrainedModel) -> None:
    stream = all_targets(15)
    missing = with_values(stream, **{PLACE: [None] * 15, CHANNEL: [None] * 15})
    events = events_of(model, missing)
    assert (events.errors[:, CATEGORICAL] == 0).all()
    assert (events.contributions[:, CATEGORICAL] == 0).all()
    assert (events_of(model, stream).errors[:, CATEGORICAL] > 0).any()


def test_unseen_value_scores_like_any_other_value_outside_the_vocabulary(
    model: TrainedModel,
) -> None:
    stream = all_targets(15)
    values = stream.column(PLACE).to_pylist()
    one, two = (
        scored(model, [with_values(stream, **{PLACE: [value, *values[1:]]})])
        for value in ("never seen", "not seen either")
    )
    assert one.drop(["reasons"]).equals(two.drop(["reasons"]))
    known = scored(model, [with_values(stream, **{PLACE: ["resort", *values[1:]]})])
    assert not known["ranking_value"].equals(one["ranking_value"])


def test_scores_are_independent_of_the_batch(model: TrainedModel) -> None:
    stream = category_stream([1, 3, 70, 16, 17, 5, 33, 2])
    config = model.config
    alone = replace(
        model,
        config=replace(config, optimisation=replace(config.optimisation, events_per_batch=1)),
    )
    together = scored(model, [stream])
    apart = scored(alone, list(split(stream, [3, 11, 40, 80, 81])))
    for name in ("reconstruction_error", "ranking_value", "score"):
        np.testing.assert_allclose(together[name], apart[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_expectations_read_earlier_categories_and_not_the_event_own(name: str) -> None:
    base = category_model()
    network = replace(base.config.network, architecture=name)
    torch.manual_seed(5)
    encoding = base.encoding
    built = randomised(
        build(network, encoding.num_inputs, encoding.num_channels, encoding.class_counts)
    )
    model = replace(base, config=replace(base.config, network=network), weights=built.state_dict())
    stream = all_targets(12)
    places = stream.column(PLACE).to_pylist()
    assert places[5] != "resort"
    changed = with_values(stream, **{PLACE: [*places[:5], "resort", *places[6:]]})
    before, after = (events_of(model, item) for item in (stream, changed))
    # The errors of the other columns show what their expectations have read.
    others = [i for i in range(len(CATEGORY_COLUMNS)) if i != CATEGORICAL[0]]
    differs = (before.errors[:, others] != after.errors[:, others]).any(axis=1)
    assert before.errors[5, CATEGORICAL[0]] != after.errors[5, CATEGORICAL[0]]
    assert not differs[:6].any()
    assert differs[6:].any() == ARCHITECTURES[name].has_memory


def test_reasons_hold_the_texts_of_categories(model: TrainedModel) -> None:
    stream = all_targets(15)
    places = stream.column(PLACE).to_pylist()
    places = ["a place <b>never</b> seen" if place == "abroad" else place for place in places]
    stream = with_values(stream, **{PLACE: places})
    events = events_of(model, stream)
    reasons = scored(model, [stream])["reasons"].to_pylist()
    found = [(row, reason) for row, items in enumerate(reasons) for reason in items]
    of_place = [(row, reason) for row, reason in found if reason["feature"] == PLACE]
    assert of_place
    for row, reason in of_place:
        assert reason["observed_text"] == places[row] is not None
        assert reason["expected_text"] == events.texts[PLACE].expected[row].as_py()
        assert reason["expected_text"] in (*PLACES.values, None)
        assert reason["observed"] is reason["expected"] is None
    numbers = [reason for _, reason in found if reason["feature"] not in (PLACE, CHANNEL)]
    assert numbers
    assert all(item["observed_text"] is item["expected_text"] is None for item in numbers)


def test_packed_contexts_give_the_errors_of_streamed_ones() -> None:
    model, stream = category_model(BY_ERROR), category_stream([9, 16, 3])
    scorer = Scorer(model)
    streamed = [scorer.score_events(batch) for batch in scorer.contexts([stream])]
    packed = pack_contexts([stream], CATEGORY_COLUMNS, LIMITS, VOCABULARIES)
    unpacked = [
        scorer.score_events(EventBatch.from_arrow(batch, len(CATEGORY_COLUMNS))) for batch in packed
    ]
    sums = [sum(e.reconstruction_error.sum() for e in part) for part in (streamed, unpacked)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-6)
    known = {*PLACES.values, None}
    assert {item.as_py() for e in unpacked for item in e.texts[PLACE].observed} <= known


def test_text_without_a_vocabulary_is_rejected() -> None:
    with pytest.raises(FraudScoringError, match=f"{PLACE} is text, but no vocabulary"):
        list(iter_contexts([category_stream([4])], CATEGORY_COLUMNS, LIMITS))


def test_code_outside_the_vocabulary_is_other() -> None:
    encoding = category_model().encoding
    values = torch.zeros(4, len(CATEGORY_COLUMNS))
    values[:, CATEGORICAL[0]] = torch.tensor([2.0, 3.0, 999.0, torch.nan])
    assert encoding.codes(values)[:, 0].tolist() == [2, 3, 3, 4]


def test_head_has_no_share_for_a_category_that_training_never_saw() -> None:
    model = category_model(BY_HEAD)
    fresh = {
        name: torch.zeros_like(weight) if name.startswith("head.embeddings") else weight
        for name, weight in model.weights.items()
    }
    errors_ignored = fresh["head.layers.0.weight"].clone()
    first = model.encoding.num_channels * 4
    errors_ignored[:, first : first + len(CATEGORY_COLUMNS)] = 0
    fresh["head.layers.0.weight"] = errors_ignored
    events = events_of(replace(model, weights=fresh), all_targets(15))
    assert (events.contributions[:, CATEGORICAL] == 0).all()
