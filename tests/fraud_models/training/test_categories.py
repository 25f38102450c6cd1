"""Training with categories: habits are learned, by the autoencoder and by the head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from fraud_models.registry.checkpoint import load_checkpoint
from fraud_models.scoring.scorer import Scorer
from fraud_models.scoring.trained_model import TrainedModel
from fraud_models.sequences.event_batch import KNOWN_FRAUD, KNOWN_GENUINE, TARGET
from fraud_models.training.loop import TrainingRun, train
from tests.fraud_models.category_model import (
    CATEGORY_COLUMNS,
    CHANNEL,
    PLACE,
    category_config,
    category_encoding,
    habit_stream,
    write_category_snapshot,
)
from tests.fraud_models.conftest import semi_supervised

NUM_CARDS, LENGTH = 300, 16


def with_roles(stream: pa.RecordBatch, roles: np.ndarray) -> pa.RecordBatch:
    columns = dict(zip(stream.schema.names, stream.columns, strict=True))
    return pa.RecordBatch.from_pydict({**columns, "role": pa.array(roles.astype(np.int32))})


def scores_by_row(model: TrainedModel, stream: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors of the place and the ranking values, in the order of the stream."""
    ids = {name: row for row, name in enumerate(stream.column("transaction_id").to_pylist())}
    errors, ranking = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
    scorer = Scorer(model)
    for batch in scorer.contexts([stream]):
        assert batch.source is not None
        events = scorer.score_events(batch)
        named = batch.source.column("transaction_id").take(pa.array(events.row)).to_pylist()
        rows = [ids[name] for name in named]
        errors[rows] = events.errors[:, CATEGORY_COLUMNS.index(PLACE)]
        ranking[rows] = events.ranking_value
    return errors, ranking


def test_place_that_is_unusual_for_the_card_has_a_large_error(tmp_path: Path) -> None:
    stream, _ = habit_stream(NUM_CARDS, seed=1)
    uri = write_category_snapshot(tmp_path / "snapshot", stream, category_encoding())
    config = category_config()
    config = replace(
        config,
        network=replace(config.network, hidden_width=32, scale_floor=0.4),
        optimisation=replace(
            config.optimisation, epochs=15, patience=15, batch_size=32, learning_rate=0.01
        ),
    )
    summary = train(TrainingRun(uri, str(tmp_path / "run"), config))
    # The same cards' habits would be remembered; other cards show that habits are read.
    others, elsewhere = habit_stream(NUM_CARDS, seed=9)
    known_habit = np.tile(np.arange(LENGTH) >= 6, NUM_CARDS)
    errors, _ = scores_by_row(
        load_checkpoint(summary["checkpoint_uri"]), with_roles(others, known_habit * TARGET)
    )
    assert np.isnan(errors[~known_habit]).all()
    area = roc_auc_score(elsewhere[known_habit], errors[known_habit])
    assert area > 0.95
    assert errors[known_habit & elsewhere].mean() > 10 * errors[known_habit & ~elsewhere].mean()


def test_head_learns_which_category_is_fraudulent(tmp_path: Path) -> None:
    stream, _ = habit_stream(NUM_CARDS, seed=2)
    # Only the two columns together tell frauds.
    pair = zip(stream.column(PLACE).to_pylist(), stream.column(CHANNEL).to_pylist(), strict=True)
    is_fraud = np.array([both == ("resort", "online") for both in pair])
    # The last sixth of each card's events is for validation of the autoencoder.
    purpose = np.tile(np.where(np.arange(LENGTH) < 13, 1, 2), NUM_CARDS)
    roles = np.where(is_fraud, KNOWN_FRAUD, KNOWN_GENUINE + purpose)
    uri = write_category_snapshot(
        tmp_path / "snapshot", with_roles(stream, roles), category_encoding()
    )
    base = category_config()
    config = semi_supervised(base)
    config = replace(config, head=replace(config.head, epochs=20, batch_size=128))
    summary = train(TrainingRun(uri, str(tmp_path / "run"), config))
    model = load_checkpoint(summary["checkpoint_uri"])
    _, ranking = scores_by_row(model, with_roles(stream, np.ones(len(roles))))
    assert roc_auc_score(is_fraud, ranking) > 0.99


@pytest.mark.parametrize("epochs", [1, 3])
def test_training_of_an_earlier_version_is_resumed(tmp_path: Path, epochs: int) -> None:
    """An earlier version's state lacks the settings of categories, which then have no effect."""
    import json

    from tests.fraud_models.conftest import SnapshotFactory, small_config

    uri = SnapshotFactory(tmp_path / "snapshot").write([8, 8, 9, 12], 2)
    config = small_config()
    config = replace(config, optimisation=replace(config.optimisation, epochs=epochs))
    run = TrainingRun(uri, str(tmp_path / "run"), config)
    first = train(run)
    (*_, state) = sorted((tmp_path / "run").glob("epoch-*.json"))
    content = json.loads(state.read_text())
    del content["config"]["max_categories"]
    for name in ("category_width", "category_floor"):
        del content["config"]["network"][name]
    state.write_text(json.dumps(content))
    assert train(run)["history"] == first["history"]
