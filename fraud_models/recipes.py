"""Recipes: functions that return a complete config. A variant is a few lines on top of another.

    def wide_lstm_autoencoder() -> ModelConfig:
        base = lstm_autoencoder()
        network = replace(base.network, hidden_width=128)
        return replace(base, recipe="wide_lstm_autoencoder", network=network)

    def usual_amount_autoencoder() -> ModelConfig:
        base = lstm_autoencoder()
        columns = (*base.columns, *AMOUNTS_AGAINST_USUAL)
        return replace(base, recipe="usual_amount_autoencoder", columns=columns)

A new recipe is also entered in `RECIPES`. A column that no feature is called yet is declared first,
and the features of the nights built again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from feature_defs.catalogue import FEATURES
from feature_defs.errors import UsageError
from feature_defs.sequences import CARD_EVENTS
from fraud_models.config import (
    BY_ERROR,
    BY_HEAD,
    BY_RARITY,
    ONE_CLASS,
    SEMI_SUPERVISED,
    UNSUPERVISED,
    HeadConfig,
    ModelConfig,
)

# How busy a merchant is, and which day it is, say nothing odd about a card; describing them only
# adds noise to the sum of errors (on the handbook's data about 0.01 AUC ROC).
NOT_DESCRIBED = ("merchant_count_", "transaction_day_of_week")
# What the card paid, now and in the last week, over what it used to pay before.
AMOUNTS_AGAINST_USUAL = tuple(
    f"{amount}_over_card_amount_mean_30d_delay_14d"
    for amount in ("transaction_amount", "card_amount_mean_7d")
)
# In log odds one fraud among many transactions is near the usual, and two of two are far from it.
FRAUD_CHANCES = tuple(f"merchant_fraud_count_{d}d_delay_7d_smoothed" for d in (1, 3, 7, 30))
# A merchant that has been cleaned keeps its known frauds for weeks: those before tell it apart.
NEWLY_RISKY = tuple(
    f"{name}_over_merchant_fraud_count_10d_delay_28d_smoothed" for name in FRAUD_CHANCES[1:3]
)


# A head sees a step wherever a value passes another half of a standard deviation.
KNOTS = tuple(half / 2 for half in range(-16, 17))


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


def adversarial_autoencoder() -> ModelConfig:
    """The same with a discriminator that keeps the codes of ordinary events close together."""
    base = lstm_autoencoder()
    network = replace(base.network, adversarial_weight=0.5)
    return replace(base, recipe="adversarial_autoencoder", network=network)


def rarity_autoencoder() -> ModelConfig:
    """Ranked by how rare the rarest of a few errors is, instead of by the sum of all."""
    base = lstm_autoencoder()
    return replace(
        base,
        recipe="rarity_autoencoder",
        # Chances of fraud as such are left out: beside one that is high, an ordinary ratio of it to
        # what it was before would look odd.
        columns=(*_without_labels(base.columns), *AMOUNTS_AGAINST_USUAL, *NEWLY_RISKY),
        network=replace(
            base.network,
            architecture="convolution_autoencoder",
            num_layers=6,
            # What is odd stays out of the code: beyond this all inputs look alike.
            input_limit=0.5,
        ),
        ranking=BY_RARITY,
        # An odd hour or a busy day is rare as often as a fraud is, and says little: chosen on weeks
        # before those that are reported.
        ranked_columns=("transaction_amount", *AMOUNTS_AGAINST_USUAL, *NEWLY_RISKY),
        # A week that costs more than usual is mostly an honest one: alone it makes no alert, and
        # orders what else looks alike.
        rarity_weights={AMOUNTS_AGAINST_USUAL[1]: 0.1},
    )


def unsupervised_autoencoder() -> ModelConfig:
    """The same without any label: neither in its columns nor in the choice of its targets."""
    base = rarity_autoencoder()
    return replace(
        base,
        recipe="unsupervised_autoencoder",
        columns=_without_labels(base.columns),
        supervision=UNSUPERVISED,
        ranked_columns=_without_labels(base.ranked_columns),
    )


def semi_supervised_autoencoder() -> ModelConfig:
    """With a head that learns from all mature labels of seven weeks."""
    base = rarity_autoencoder()
    return replace(
        base,
        recipe="semi_supervised_autoencoder",
        columns=(*base.columns, *FRAUD_CHANCES),
        supervision=SEMI_SUPERVISED,
        ranking=BY_HEAD,
        ranked_columns=(),
        rarity_weights={},
        head=HeadConfig(knots=KNOTS),
        train_days=49,
    )


# -- what a part of the rarity_autoencoder is worth: the same without it ---------------------------


def without_history() -> ModelConfig:
    """Without a memory of the card's earlier events."""
    base = rarity_autoencoder()
    network = replace(base.network, architecture="feed_forward_autoencoder", num_layers=1)
    return replace(base, recipe="without_history", network=network)


def without_label_columns() -> ModelConfig:
    """Without columns that are made of labels; known frauds are still no targets."""
    base = unsupervised_autoencoder()
    return replace(base, recipe="without_label_columns", supervision=ONE_CLASS)


def without_likelihoods() -> ModelConfig:
    """With plain squared errors: nearly Gaussian, and scales that stay at one encoded unit."""
    base = rarity_autoencoder()
    network = replace(
        base.network, scale_floor=1.0, degrees_of_freedom=1e6, amount_degrees_of_freedom=1e6
    )
    return replace(base, recipe="without_likelihoods", network=network)


def without_rarities() -> ModelConfig:
    """Ranked by the plain sum of the same columns' errors."""
    base = rarity_autoencoder()
    return replace(base, recipe="without_rarities", ranking=BY_ERROR, rarity_weights={})


def _without_labels(columns: tuple[str, ...]) -> tuple[str, ...]:
    known = (FEATURES.get(name) for name in columns)
    of_labels = {feature.name for feature in known if feature and feature.reads_labels}
    return tuple(name for name in columns if name not in of_labels)


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
    "adversarial_autoencoder": adversarial_autoencoder,
    "rarity_autoencoder": rarity_autoencoder,
    "unsupervised_autoencoder": unsupervised_autoencoder,
    "semi_supervised_autoencoder": semi_supervised_autoencoder,
    "without_history": without_history,
    "without_label_columns": without_label_columns,
    "without_likelihoods": without_likelihoods,
    "without_rarities": without_rarities,
}


def recipe(name: str) -> ModelConfig:
    """The config of a recipe.

    Raises:
        UsageError: no such recipe, the message lists all there are; or one that reads columns
            which no feature is.
    """
    if name not in RECIPES:
        raise UsageError(
            f"There is no recipe {name!r}.",
            expected=f"one of: {', '.join(sorted(RECIPES))}.",
            remedy="choose one of these, or add a function to fraud_models/recipes.py.",
        )
    config = RECIPES[name]()
    unknown = [column for column in config.columns if column not in FEATURES]
    if unknown:
        raise UsageError(
            f"The recipe {name} reads {', '.join(unknown)}, which no feature is called.",
            expected=f"columns among: {', '.join(FEATURES)}.",
            remedy="correct the recipe in fraud_models/recipes.py, or declare the feature.",
        )
    return config
