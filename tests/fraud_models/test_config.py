"""Configs and recipes: complete, checked, and refusing what they do not know."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ablations import ABLATIONS

from feature_defs.errors import UsageError
from fraud_models import recipes
from fraud_models.config import HeadConfig, ModelConfig, NetworkConfig, OptimisationConfig
from fraud_models.networks import build
from fraud_models.recipes import RECIPES, lstm_autoencoder, recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipe_survives_json(name: str) -> None:
    config = recipe(name)
    assert config.recipe == name
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_recipe_is_refused_with_the_list_of_recipes() -> None:
    with pytest.raises(UsageError, match="lstm_autoencoder"):
        recipe("lstm_autoencoder_v2")


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_ablation_is_no_recipe_but_its_stored_config_loads(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        recipe(name)
    config = ABLATIONS[name]()
    assert config.recipe == name
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("part", [None, "network", "optimisation", "head"])
def test_unknown_key_is_rejected(part: str | None) -> None:
    values = lstm_autoencoder().to_dict()
    (values[part] if part else values)["hiden_width"] = 3
    with pytest.raises(UsageError, match="hiden_width"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("cls", "change"),
    [
        (NetworkConfig, {"hidden_width": 0}),
        (NetworkConfig, {"dropout": 1.0}),
        (NetworkConfig, {"scale_floor": 0.0}),
        (NetworkConfig, {"input_limit": 0.0}),
        (NetworkConfig, {"adversarial_weight": -1.0}),
        (NetworkConfig, {"category_width": 0}),
        (NetworkConfig, {"category_floor": 0.0}),
        (NetworkConfig, {"category_floor": 1.0}),
        (HeadConfig, {"hidden_width": 0}),
        (HeadConfig, {"epochs": 0}),
        (HeadConfig, {"batch_size": 0}),
        (HeadConfig, {"learning_rate": 0.0}),
        (HeadConfig, {"weight_decay": -1.0}),
        (HeadConfig, {"knots": (1.0,)}),
        (HeadConfig, {"knots": (1.0, 1.0)}),
        (HeadConfig, {"knots": (1.0, float("inf"))}),
        (OptimisationConfig, {"epochs": 0}),
        (OptimisationConfig, {"epochs": 1.5}),
        (OptimisationConfig, {"learning_rate": float("nan")}),
        (OptimisationConfig, {"learning_rate": float("inf")}),
        (OptimisationConfig, {"seed": -1}),
    ],
)
def test_value_out_of_range_is_rejected(cls: type, change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(change))):
        cls(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"validation_days": 0},
        {"context_period_days": 0},
        {"validation_days": 60, "train_days": 60},
        {"columns": ()},
        {"columns": ("transaction_amount",) * 20},
        {"network": NetworkConfig(code_width=99)},
        {"warm_up_events": 4096},
        {"supervision": "some"},
        {"supervision": "unsupervised"},
        {"supervision": "semi_supervised"},
        {"ranking": "luck"},
        {"ranking": "fraud_head"},
        {"ranked_columns": ("merchant_fraud_rate",)},
        {"ranked_columns": ("transaction_amount",) * 2},
        {"rarity_weights": {"transaction_amount": 0.5}},
        {"ranking": "rarity", "rarity_weights": {"transaction_amount": 0.0}},
        {"ranking": "rarity", "rarity_weights": {"transaction_amount": float("nan")}},
        {
            "ranking": "rarity",
            "ranked_columns": ("card_count_7d",),
            "rarity_weights": {"transaction_amount": 0.5},
        },
    ],
)
def test_inconsistent_settings_are_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(lstm_autoencoder(), **change)


def test_unknown_architecture_error_lists_the_architectures() -> None:
    with pytest.raises(UsageError, match="lstm_autoencoder"):
        build(NetworkConfig(architecture="rnn"), num_inputs=3, num_channels=2)


def test_unsupervised_config_rejects_columns_derived_from_labels() -> None:
    with pytest.raises(UsageError, match=r"merchant_fraud_rate_1d_delay_7d, .*merchant_fraud"):
        replace(lstm_autoencoder(), supervision="unsupervised")
    blind = tuple(name for name in lstm_autoencoder().columns if "fraud" not in name)
    assert replace(lstm_autoencoder(), supervision="unsupervised", columns=blind).columns == blind


def test_ranked_columns_default_to_all_and_keep_model_order() -> None:
    base = lstm_autoencoder()
    assert base.ranked == base.columns
    named = ("card_count_7d", "transaction_amount")
    assert replace(base, ranked_columns=named).ranked == named[::-1]


def test_recipe_with_a_column_without_a_feature_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = recipes.rarity_autoencoder()
    changed = replace(usual, columns=(*usual.columns, "card_nope_7d"))
    monkeypatch.setattr(recipes, "rarity_autoencoder", lambda: changed)
    with pytest.raises(UsageError, match="columns without a feature: card_nope_7d"):
        recipes.recipe("unsupervised_autoencoder")
