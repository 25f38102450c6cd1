"""Ablations of the rarity_autoencoder: the same recipe without one of its parts.

They answer what a part is worth and are no choice for production, so they are not among the
recipes of `fraud_models/recipes.py`. Measured by

    python tests/benchmarks/model_choice.py ablations --lake L --from 2018-07-18 --to 2018-08-14
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fraud_models.config import BY_ERROR, ONE_CLASS, ModelConfig
from fraud_models.recipes import rarity_autoencoder, unsupervised_autoencoder


def without_history() -> ModelConfig:
    """Return the recipe without a memory of the card's earlier events."""
    base = rarity_autoencoder()
    network = replace(base.network, architecture="feed_forward_autoencoder", num_layers=1)
    return replace(base, recipe="without_history", network=network)


def without_label_columns() -> ModelConfig:
    """Return the recipe without label features; known frauds are still excluded as targets."""
    base = unsupervised_autoencoder()
    return replace(base, recipe="without_label_columns", supervision=ONE_CLASS)


def without_likelihoods() -> ModelConfig:
    """Return the recipe with squared errors: nearly Gaussian, scales fixed at one encoded unit."""
    base = rarity_autoencoder()
    network = replace(
        base.network, scale_floor=1.0, degrees_of_freedom=1e6, amount_degrees_of_freedom=1e6
    )
    return replace(base, recipe="without_likelihoods", network=network)


def without_rarities() -> ModelConfig:
    """Return the recipe ranked by the plain sum of the same columns' errors."""
    base = rarity_autoencoder()
    return replace(base, recipe="without_rarities", ranking=BY_ERROR, rarity_weights={})


ABLATIONS: dict[str, Callable[[], ModelConfig]] = {
    "without_history": without_history,
    "without_label_columns": without_label_columns,
    "without_likelihoods": without_likelihoods,
    "without_rarities": without_rarities,
}
