"""Versions and aliases in a real MLflow store on SQLite."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest

from feature_defs.errors import InputMissing, UsageError
from fraud_models.registry.mlflow_registry import (
    CHALLENGER,
    CHAMPION,
    EpochMetrics,
    Registration,
    Registry,
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("lake") / "_registry"
    return Registry(f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts"))


def registration(training_id: str, sha256: str) -> Registration:
    return Registration(
        uri=f"/lake/_models/{training_id}",
        sha256=sha256,
        training_id=training_id,
        params={"recipe": "lstm_autoencoder", "hidden_width": 64},
        metrics={"average_precision": 0.6},
        epochs=[EpochMetrics(1, {"train_loss": 2.0}), EpochMetrics(2, {"train_loss": 1.0})],
        tags={"as_of": "2018-07-04"},
    )


def test_versions_and_aliases_through_a_model_lifecycle(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="fraud_models"):
        with pytest.raises(InputMissing, match="no champion yet"):
            registry.resolve(CHAMPION)
        with pytest.raises(InputMissing, match="version 1"):
            registry.resolve(1)
        assert registry.list_aliases() == {}
        assert registry.find_by_training_id("one") is None

        first = registry.register(registration("one", "a" * 64))
        assert registry.register(registration("one", "a" * 64)) == first
        second = registry.register(registration("two", "b" * 64))
        assert second == first + 1
    assert not [r for r in caplog.records if r.name.startswith(("alembic", "mlflow"))]

    registry.set_alias(CHALLENGER, second)
    registry.set_alias(CHAMPION, first)
    champion = registry.resolve(CHAMPION)
    assert (champion.version, champion.uri) == (first, "/lake/_models/one")
    assert champion.sha256 == "a" * 64
    assert champion.aliases == (CHAMPION,)
    assert champion.tags["as_of"] == "2018-07-04"
    assert registry.resolve(str(second)).aliases == (CHALLENGER,)
    assert registry.list_aliases() == {CHAMPION: first, CHALLENGER: second}

    registry.set_alias(CHAMPION, second)
    assert registry.resolve(CHAMPION).version == second
    assert registry.resolve(first).aliases == ()
    found = registry.find_by_training_id("two")
    assert found is not None and found.version == second
    with pytest.raises(InputMissing, match="version 99"):
        registry.set_alias(CHAMPION, 99)
    assert registry.resolve(CHAMPION).version == second


def test_register_with_different_weights_makes_a_new_version(registry: Registry) -> None:
    first = registry.register(registration("three", "c" * 64))
    again = registry.register(replace(registration("three", "c" * 64), sha256="d" * 64))
    assert again == first + 1
    found = registry.find_by_training_id("three")
    assert found is not None and found.sha256 == "d" * 64


def test_unknown_alias_is_rejected(registry: Registry) -> None:
    with pytest.raises(UsageError, match="champion, challenger"):
        registry.set_alias("favourite", 1)
    with pytest.raises(InputMissing, match="no favourite yet"):
        registry.resolve("favourite")


def test_telemetry_is_disabled() -> None:
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["DO_NOT_TRACK"] == "true"


def test_store_is_created_at_the_tracking_uri(registry: Registry) -> None:
    assert Path(registry.tracking_uri.removeprefix("sqlite:///")).exists()
