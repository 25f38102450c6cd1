"""Recipes: functions that return a complete config. A variant is a few lines on top of another.

    def wide_lstm_autoencoder() -> ModelConfig:
        base = lstm_autoencoder()
        network = replace(base.network, hidden_width=128)
        return replace(base, recipe="wide_lstm_autoencoder", network=network)

    def usual_amount_autoencoder() -> ModelConfig:
        base = lstm_autoencoder()
        columns = (*base.columns, *AMOUNTS_AGAINST_USUAL)
        return replace(base, recipe="usual_amount_autoencoder", columns=columns)

A new recipe also needs an entry in `RECIPES`, here or in a module of your own, which the setting
`recipes` names. A new column first needs a feature of that name, and the features of the nights
must be rebuilt. A trained model holds its whole config, so what scores it needs no recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from feature_defs.catalogue import FEATURES
from feature_defs.errors import UsageError
from feature_defs.own_modules import import_own
from feature_defs.sequences import CARD_EVENTS
from fraud_models.config import (
    BY_HEAD,
    BY_RARITY,
    SEMI_SUPERVISED,
    UNSUPERVISED,
    HeadConfig,
    ModelConfig,
)

# A busy merchant or the day of the week is no anomaly of a card: reconstructing these columns only
# adds noise to the sum of errors (about 0.01 AUC ROC on the handbook data).
NOT_RECONSTRUCTED = ("merchant_count_", "transaction_day_of_week")
# This payment's amount, and last week's mean amount, each divided by the card's earlier mean.
AMOUNTS_AGAINST_USUAL = tuple(
    f"{amount}_over_card_amount_mean_30d_delay_14d"
    for amount in ("transaction_amount", "card_amount_mean_7d")
)
# Smoothed: one fraud among many transactions stays near the prior, two of two are far from it.
FRAUD_CHANCES = tuple(f"merchant_fraud_count_{d}d_delay_7d_smoothed" for d in (1, 3, 7, 30))
# A merchant that is safe again keeps its known frauds in the windows for weeks. The ratio to the
# frauds before these windows separates it from a merchant that is newly compromised.
NEWLY_RISKY = tuple(
    f"{name}_over_merchant_fraud_count_10d_delay_28d_smoothed" for name in FRAUD_CHANCES[1:3]
)
# The head reads values piecewise, in steps of half a standard deviation.
KNOTS = tuple(half / 2 for half in range(-16, 17))


def lstm_autoencoder() -> ModelConfig:
    """Return the causal LSTM autoencoder over a card's events, ranked by reconstruction error."""
    columns = tuple(name for name in CARD_EVENTS.columns if not name.startswith(NOT_RECONSTRUCTED))
    return ModelConfig(recipe="lstm_autoencoder", columns=columns)


def gru_autoencoder() -> ModelConfig:
    """Return the lstm_autoencoder with gated recurrent units instead."""
    return _of_architecture("gru_autoencoder")


def convolution_autoencoder() -> ModelConfig:
    """Return the lstm_autoencoder with dilated convolutions, which read 126 events back."""
    return _of_architecture("convolution_autoencoder", num_layers=6)


def transformer_autoencoder() -> ModelConfig:
    """Return the lstm_autoencoder with attention over at least the last 128 events."""
    return _of_architecture("transformer_autoencoder", num_layers=2)


def feed_forward_autoencoder() -> ModelConfig:
    """Return the lstm_autoencoder without a memory: it reads the event's own features only."""
    return _of_architecture("feed_forward_autoencoder")


def adversarial_autoencoder() -> ModelConfig:
    """Return the lstm_autoencoder with a discriminator that keeps normal codes in one region."""
    base = lstm_autoencoder()
    network = replace(base.network, adversarial_weight=0.5)
    return replace(base, recipe="adversarial_autoencoder", network=network)


def rarity_autoencoder() -> ModelConfig:
    """Return an autoencoder ranked by the rarest of a few errors instead of the sum of all."""
    base = lstm_autoencoder()
    return replace(
        base,
        recipe="rarity_autoencoder",
        # The fraud probabilities themselves are excluded: where one is high, a normal ratio of it
        # to its earlier value would look anomalous.
        columns=(*_without_labels(base.columns), *AMOUNTS_AGAINST_USUAL, *NEWLY_RISKY),
        network=replace(
            base.network,
            architecture="convolution_autoencoder",
            num_layers=6,
            # Inputs are clipped at this value, so that the code cannot describe an anomaly.
            input_limit=0.5,
        ),
        ranking=BY_RARITY,
        # An unusual hour or a busy day is as rare as a fraud and predicts little. The columns were
        # chosen on weeks before the reported ones.
        ranked_columns=("transaction_amount", *AMOUNTS_AGAINST_USUAL, *NEWLY_RISKY),
        # A week of higher spending is mostly genuine. With this weight it raises no alert alone; it
        # only orders transactions that otherwise tie.
        rarity_weights={AMOUNTS_AGAINST_USUAL[1]: 0.1},
    )


def unsupervised_autoencoder() -> ModelConfig:
    """Return the rarity_autoencoder with neither columns nor targets that depend on labels."""
    base = rarity_autoencoder()
    return replace(
        base,
        recipe="unsupervised_autoencoder",
        columns=_without_labels(base.columns),
        supervision=UNSUPERVISED,
        ranked_columns=_without_labels(base.ranked_columns),
    )


def semi_supervised_autoencoder() -> ModelConfig:
    """Return the rarity_autoencoder with a head trained on all mature labels of seven weeks."""
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


def _without_labels(columns: tuple[str, ...]) -> tuple[str, ...]:
    features = (FEATURES.get(name) for name in columns)
    label_features = {feature.name for feature in features if feature and feature.reads_labels}
    return tuple(name for name in columns if name not in label_features)


def _of_architecture(name: str, num_layers: int = 1) -> ModelConfig:
    base = lstm_autoencoder()
    network = replace(base.network, architecture=name, num_layers=num_layers)
    return replace(base, recipe=name, network=network)


Recipes = Mapping[str, Callable[[], ModelConfig]]
RECIPES: Recipes = {
    "lstm_autoencoder": lstm_autoencoder,
    "gru_autoencoder": gru_autoencoder,
    "convolution_autoencoder": convolution_autoencoder,
    "transformer_autoencoder": transformer_autoencoder,
    "feed_forward_autoencoder": feed_forward_autoencoder,
    "adversarial_autoencoder": adversarial_autoencoder,
    "rarity_autoencoder": rarity_autoencoder,
    "unsupervised_autoencoder": unsupervised_autoencoder,
    "semi_supervised_autoencoder": semi_supervised_autoencoder,
}


def recipe(name: str, recipes: Recipes = RECIPES) -> ModelConfig:
    """Return the config of a recipe, under its name.

    Raises:
        UsageError: there is no such recipe, it returns no config, or it reads a column without a
            feature of that name; the message says what to correct.
    """
    if name not in recipes:
        raise UsageError(
            f"There is no recipe {name!r}.",
            expected=f"one of: {', '.join(sorted(recipes))}.",
            remedy="choose one of these, or add a function to the module that the setting "
            "`recipes` names.",
        )
    config = recipes[name]()
    if not isinstance(config, ModelConfig):
        raise UsageError(
            f"The recipe {name} returns {type(config).__name__}.",
            expected="a function without arguments that returns a ModelConfig.",
            remedy="return the config, for instance `replace(lstm_autoencoder(), ...)`.",
        )
    unknown = [column for column in config.columns if column not in FEATURES]
    if unknown:
        raise UsageError(
            f"The recipe {name} reads columns without a feature: {', '.join(unknown)}.",
            expected=f"columns among: {', '.join(FEATURES)}.",
            remedy="correct the recipe, or define the feature.",
        )
    return replace(config, recipe=name)


def with_own_recipes(location: str | None) -> Recipes:
    """Return all recipes: those of this module, and the `RECIPES` of a module of your own.

    `location` is the name of an importable module, or the path of a .py file. Its code is run.

    Raises:
        UsageError: the module cannot be imported, has no `RECIPES`, or has a recipe under a name
            that is taken; the message says what to correct.
    """
    if location is None:
        return RECIPES
    own = getattr(import_own(location, "recipes"), "RECIPES", None)
    are_recipes = isinstance(own, Mapping) and all(
        isinstance(name, str) and callable(function) for name, function in own.items()
    )
    if not are_recipes:
        raise UsageError(
            f"{location} has no usable RECIPES.",
            expected='a dictionary from names to functions, `RECIPES = {"my_recipe": my_recipe}`.',
            remedy="add it, or correct the setting `recipes`.",
        )
    assert isinstance(own, Mapping)
    taken = sorted(set(own) & set(RECIPES))
    if taken:
        raise UsageError(
            f"{location} defines recipes under names that are taken: {', '.join(taken)}.",
            expected="names other than those of the built-in recipes.",
            remedy="rename them.",
        )
    return {**RECIPES, **own}
