"""Recipes: functions that return a complete config. A variant is a few lines on top of another.

    def wide_lstm_autoencoder() -> ModelConfig:
        base = lstm_autoencoder()
        network = replace(base.network, hidden_width=128)
        return replace(base, recipe="wide_lstm_autoencoder", network=network)

    def merchant_aware_autoencoder() -> ModelConfig:
        base = lstm_autoencoder()
        columns = (*base.columns, "card_merchant_id_distinct_7d")
        return replace(base, recipe="merchant_aware_autoencoder", columns=columns)

A new recipe is also entered in `RECIPES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from feature_defs.problems import UsageProblem
from feature_defs.sequences import CARD_EVENTS
from fraud_models.config import ModelConfig

# How busy a merchant is, and which day it is, say nothing odd about a card; describing them only
# adds noise to the sum of errors (on the handbook's data about 0.01 AUC ROC).
NOT_DESCRIBED = ("merchant_count_", "transaction_day_of_week")


def lstm_autoencoder() -> ModelConfig:
    """Causal LSTM autoencoder over a card's events, ranked by reconstruction error."""
    columns = tuple(name for name in CARD_EVENTS.columns if not name.startswith(NOT_DESCRIBED))
    return ModelConfig(recipe="lstm_autoencoder", columns=columns)


def gru_autoencoder() -> ModelConfig:
    """The same with gated recurrent units."""
    return _of_architecture("gru_autoencoder")


def convolution_autoencoder() -> ModelConfig:
    """The same with dilated convolutions, which see 126 events back."""
    return _of_architecture("convolution_autoencoder", num_layers=6)


def transformer_autoencoder() -> ModelConfig:
    """The same with attention over at least the last 128 events."""
    return _of_architecture("transformer_autoencoder", num_layers=2)


def feed_forward_autoencoder() -> ModelConfig:
    """The same without a memory: what the features of the event alone are worth."""
    return _of_architecture("feed_forward_autoencoder")


def _of_architecture(name: str, num_layers: int = 1) -> ModelConfig:
    base = lstm_autoencoder()
    network = replace(base.network, architecture=name, num_layers=num_layers)
    return replace(base, recipe=name, network=network)


RECIPES: dict[str, Callable[[], ModelConfig]] = {
    "lstm_autoencoder": lstm_autoencoder,
    "gru_autoencoder": gru_autoencoder,
    "convolution_autoencoder": convolution_autoencoder,
    "transformer_autoencoder": transformer_autoencoder,
    "feed_forward_autoencoder": feed_forward_autoencoder,
}


def recipe(name: str) -> ModelConfig:
    """The config of a recipe.

    Raises:
        UsageProblem: no such recipe; the message lists all there are.
    """
    if name not in RECIPES:
        raise UsageProblem(
            f"There is no recipe {name!r}.",
            expected=f"one of: {', '.join(sorted(RECIPES))}.",
            remedy="choose one of these, or add a function to fraud_models/recipes.py.",
        )
    return RECIPES[name]()
