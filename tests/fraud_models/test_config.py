"""Configs and recipes: complete, checked, and refusing what they do not know."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from feature_defs.problems import UsageProblem
from fraud_models.config import ModelConfig, NetworkConfig, OptimisationConfig
from fraud_models.networks import build
from fraud_models.recipes import RECIPES, lstm_autoencoder, recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_survive_json(name: str) -> None:
    config = recipe(name)
    assert config.recipe == name
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_recipe_lists_those_there_are() -> None:
    with pytest.raises(UsageProblem, match="lstm_autoencoder"):
        recipe("lstm_autoencoder_v2")


@pytest.mark.parametrize("part", [None, "network", "optimisation"])
def test_unknown_keys_are_refused(part: str | None) -> None:
    values = lstm_autoencoder().to_dict()
    (values[part] if part else values)["hiden_width"] = 3
    with pytest.raises(UsageProblem, match="hiden_width"):
        ModelConfig.from_dict(values)


@pytest.mark.parametrize(
    ("cls", "change"),
    [
        (NetworkConfig, {"hidden_width": 0}),
        (NetworkConfig, {"dropout": 1.0}),
        (NetworkConfig, {"scale_floor": 0.0}),
        (OptimisationConfig, {"epochs": 0}),
        (OptimisationConfig, {"learning_rate": float("nan")}),
    ],
)
def test_values_out_of_range_are_refused(cls: type, change: dict[str, Any]) -> None:
    with pytest.raises(UsageProblem, match=next(iter(change))):
        cls(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"validation_days": 0},
        {"validation_days": 60, "train_days": 60},
        {"columns": ()},
        {"columns": ("transaction_amount",) * 20},
        {"network": NetworkConfig(code_width=99)},
        {"warm_up_events": 4096},
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageProblem):
        replace(lstm_autoencoder(), **change)


def test_an_unknown_architecture_lists_those_there_are() -> None:
    with pytest.raises(UsageProblem, match="lstm_autoencoder"):
        build(NetworkConfig(architecture="rnn"), num_inputs=3, num_channels=2)
