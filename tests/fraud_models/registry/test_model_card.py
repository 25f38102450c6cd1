"""Contents of a model card."""

from __future__ import annotations

from dataclasses import replace

from fraud_models.config import BY_HEAD, SEMI_SUPERVISED
from fraud_models.registry.model_card import model_card
from fraud_models.scoring.trained_model import TrainedModel
from tests.fraud_models.category_model import category_model


def test_card_describes_training_data_and_columns(model: TrainedModel) -> None:
    events = {"num_train_events": 266_123, "num_validation_events": 61_007}
    ranks = {"world_size": 2, "device": "cpu", "precision": "float32"}
    training = {**events, **ranks, "train_loss": 1.25}
    card = model_card(replace(model, training=training))
    assert card.startswith("# lstm_autoencoder, as of 2018-07-04\n")
    assert "Training nights 2018-05-30 to 2018-06-26: 266123 events." in card
    assert "calibration nights 2018-06-27 to 2018-07-03: 61007 events." in card
    assert "2 processes on cpu, matrix products in float32." in card
    assert "`features` 4" in card and "Training loss: 1.2500 nats per event." in card
    assert "Validation loss" not in card
    assert "| `transaction_amount` | yes | no | `mark-transaction_amount` |" in card
    assert "| `merchant_fraud_rate_7d_delay_7d` | yes | yes |" in card
    assert "not a probability of fraud" in card and "merchants look better than they are" in card


def test_card_describes_use_of_labels_and_ranking(
    any_model: TrainedModel,
) -> None:
    config, card = any_model.config, model_card(any_model)
    semi_supervised = config.supervision == SEMI_SUPERVISED
    assert ("all mature labels" in card) == semi_supervised
    assert ("log odds" in card) == (config.ranking == BY_HEAD)
    for name in config.columns:
        assert f"| `{name}` | {'yes' if name in config.ranked else 'no'} |" in card


def test_card_marks_columns_no_longer_in_the_catalogue(model: TrainedModel) -> None:
    columns = {**model.columns, "card_count_3d": "mark"}
    card = model_card(replace(model, columns=columns))
    assert "| `card_count_3d` | no | no longer in the catalogue | `mark` |" in card


def test_card_describes_categories(model: TrainedModel) -> None:
    card = model_card(category_model())
    assert "| `transaction_place` | 3 | 10.00 % |" in card
    assert "| `transaction_till` | 2 | 0.00 % |" in card
    assert "## Categories" not in model_card(model)
