"""Access the models of a lake: the registry and the checkpoint of a version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feature_defs.errors import FraudScoringError, InputMissing
from fraud_models.registry.mlflow_registry import ModelVersion, Registry
from fraud_models.storage import exists

if TYPE_CHECKING:
    from fraud_models.scoring.trained_model import TrainedModel
    from jobs.lake.delta_io import Lake


def has_registry(lake: Lake) -> bool:
    """Return whether the lake has a registry, or the settings name one elsewhere."""
    return bool(lake.settings.registry_uri) or exists(lake.path("_registry", "mlflow.db"))


def has_model_of(lake: Lake, training_id: str) -> bool:
    """Return whether a model with this training id is registered.

    Raises:
        InputMissing: the registry exists and cannot be read.
    """
    return has_registry(lake) and open_registry(lake).find_by_training_id(training_id) is not None


def open_registry(lake: Lake) -> Registry:
    """Open the registry that the settings name, by default the one inside the lake."""
    folder = lake.path("_registry")
    lake.files.makedirs(folder, exist_ok=True)
    uri = lake.settings.registry_uri or f"sqlite:///{folder}/mlflow.db"
    try:
        registry = Registry(uri, lake.path("_registry", "artifacts"))
        registry.list_aliases()
    except FraudScoringError:
        raise
    except Exception as error:
        # MLflow stores raise many exception types; all of them mean an unreadable input.
        raise InputMissing(
            f"The model registry {uri} cannot be read: {str(error).splitlines()[0][:300]}",
            expected="the MLflow store that `train` made.",
            remedy="restore it from a backup, or correct FRAUD_REGISTRY_URI.",
        ) from error
    return registry


def read_checkpoint(model: ModelVersion) -> TrainedModel:
    """Read the checkpoint of a version and verify it against the digest in the registry.

    Raises:
        InputMissing: the checkpoint is missing or damaged.
    """
    from fraud_models.registry.checkpoint import load_checkpoint

    return load_checkpoint(model.uri, model.sha256)
