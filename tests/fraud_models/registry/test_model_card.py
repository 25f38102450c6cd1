"""What a model card tells, and that it tells nothing that the checkpoint does not know."""

from __future__ import annotations

from dataclasses import replace

from fraud_models.config import BY_HEAD, SEMI_SUPERVISED
from fraud_models.registry.model_card import model_card
from fraud_models.scoring.trained_model import TrainedModel


def test_a_card_tells_what_the_model_was_made_from(checkpoint: TrainedModel) -> None:
    events = {"num_train_events": 266_123, "num_validation_events": 61_007}
    ranks = {"world_size": 2, "device": "cpu", "precision": "float32"}
    training = {**events, **ranks, "train_loss": 1.25}
    card = model_card(replace(checkpoint, training=training))
    assert card.startswith("# lstm_autoencoder, as of 2018-07-04\n")
    assert "Nights 2018-05-30 to 2018-06-26: 266123 events." in card
    assert "Chosen and calibrated on 2018-06-27 to 2018-07-03: 61007 events." in card
    assert "Learned by 2 processes on cpu, products in float32." in card
    assert "`features` 4" in card and "Training: 1.2500 nats per event." in card
    assert "Validation:" not in card
    assert "| `transaction_amount` | yes | no | `mark-transaction_amount` |" in card
    assert "| `merchant_fraud_rate_7d_delay_7d` | yes | yes |" in card
    assert "not a probability of fraud" in card and "merchants look better than they are" in card


def test_a_card_says_what_labels_were_for_and_which_columns_rank(
    any_checkpoint: TrainedModel,
) -> None:
    config, card = any_checkpoint.config, model_card(any_checkpoint)
    semi_supervised = config.supervision == SEMI_SUPERVISED
    assert ("a head learned from all labels" in card) == semi_supervised
    assert ("log odds" in card) == (config.ranking == BY_HEAD)
    for name in config.columns:
        assert f"| `{name}` | {'yes' if name in config.ranked else 'no'} |" in card


def test_a_column_that_the_catalogue_has_no_more_is_told_as_such(checkpoint: TrainedModel) -> None:
    columns = {**checkpoint.columns, "card_count_3d": "mark"}
    card = model_card(replace(checkpoint, columns=columns))
    assert "| `card_count_3d` | no | not in the catalogue any more | `mark` |" in card
