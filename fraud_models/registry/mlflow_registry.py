"""Model versions and their aliases, champion and challenger, in MLflow.

This is the only module that imports MLflow. A model version stores the URI of a checkpoint folder
and the SHA-256 of its `checkpoint.json`; aliases say which version is in use. Weights are never
sent to MLflow. Models are therefore stored only in the lake, and a remote tracking server needs no
access to it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# MLflow reads these on import. No telemetry may leave the bank's network.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"

from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from feature_defs.errors import InputMissing, UsageError

MODEL_NAME = "card_autoencoder"
EXPERIMENT_NAME = "fraud-scoring"
CHAMPION, CHALLENGER = "champion", "challenger"
ALIASES = (CHAMPION, CHALLENGER)
# Longer numbers would overflow the integers of the registry's database.
MAX_VERSION_DIGITS = 9
SHA256_TAG, TRAINING_ID_TAG = "sha256", "training_id"


@dataclass(frozen=True)
class ModelVersion:
    """A registered model version."""

    version: int
    uri: str
    """Folder of the checkpoint."""
    sha256: str
    """SHA-256 of its `checkpoint.json`."""
    aliases: tuple[str, ...]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics of one training epoch."""

    epoch: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Registration:
    """A checkpoint to register, with its parameters and metrics."""

    uri: str
    """Folder of the checkpoint."""
    sha256: str
    """SHA-256 of its `checkpoint.json`."""
    training_id: str
    """Identifies the training: registering it twice returns the same version."""
    params: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    epochs: Sequence[EpochMetrics] = ()
    tags: Mapping[str, str] | None = None
    description: str = ""
    """Location of the model card."""


class Registry:
    """Model versions in an MLflow store.

    `tracking_uri` is `sqlite:///<path>` or the address of a server; `artifact_root` is a folder
    or URI.
    """

    def __init__(self, tracking_uri: str, artifact_root: str) -> None:
        self.tracking_uri = tracking_uri
        self.artifact_root = artifact_root
        _silence_store_logs()
        if tracking_uri.startswith("sqlite:///"):
            Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def register(self, registration: Registration) -> int:
        """Register a checkpoint as a new version; return its number.

        Safe to repeat: a training that is already registered keeps its version.
        """
        registered = self.find_by_training_id(registration.training_id)
        if registered is not None and registered.sha256 == registration.sha256:
            return registered.version
        run_id = self._log_run(registration)
        self._ensure_model()
        version = self._client.create_model_version(
            MODEL_NAME,
            source=registration.uri,
            run_id=run_id,
            description=registration.description,
            tags={
                **(registration.tags or {}),
                SHA256_TAG: registration.sha256,
                TRAINING_ID_TAG: registration.training_id,
            },
        )
        return int(version.version)

    def find_by_training_id(self, training_id: str) -> ModelVersion | None:
        """Return the newest version of a training, or None if it is not registered."""
        matching = [v for v in self.versions() if v.tags.get(TRAINING_ID_TAG) == training_id]
        return matching[-1] if matching else None

    def versions(self) -> list[ModelVersion]:
        """Return all versions, oldest first."""
        versions: list[ModelVersion] = []
        token: str | None = None
        while True:
            page = self._client.search_model_versions(f"name='{MODEL_NAME}'", page_token=token)
            # Search results lack aliases, so each version is read separately.
            versions += [self._read(int(item.version)) for item in page]
            token = page.token
            if not token:
                return sorted(versions, key=lambda item: item.version)

    def set_alias(self, alias: str, version: int) -> None:
        """Point an alias at a version.

        Raises:
            UsageError: the alias is unknown; use one that the message lists.
            InputMissing: the version does not exist; use one that the message lists.
        """
        if alias not in ALIASES:
            raise UsageError(
                f"The alias {alias!r} is unknown.",
                expected=f"one of: {', '.join(ALIASES)}.",
                remedy="choose one of these.",
            )
        self.resolve(version)
        self._client.set_registered_model_alias(MODEL_NAME, alias, str(version))

    def resolve(self, alias_or_version: str | int) -> ModelVersion:
        """Return the version with this alias or number. There is no default.

        Raises:
            InputMissing: the alias is not set, or the version does not exist; use one that the
                message lists, or train, evaluate and promote a model.
        """
        text = str(alias_or_version)
        if text.isascii() and text.isdigit() and len(text) <= MAX_VERSION_DIGITS:
            return self._require_version(int(text))
        aliases = self.list_aliases()
        if text not in aliases:
            raise InputMissing(
                f"There is no {text or 'model without a name'} yet.",
                expected=f"an alias that is set ({', '.join(sorted(aliases)) or 'none is'}) or the "
                "number of a version.",
                remedy="train, evaluate and promote a model (`fraud-scoring train`, `evaluate`, "
                "`promote`).",
            )
        return self._require_version(aliases[text])

    def list_aliases(self) -> dict[str, int]:
        """Return the version number of each alias that is set."""
        try:
            model = self._client.get_registered_model(MODEL_NAME)
        except MlflowException as error:
            _raise_unless_missing(error)
            return {}
        return {alias: int(version) for alias, version in model.aliases.items()}

    def _require_version(self, number: int) -> ModelVersion:
        try:
            return self._read(number)
        except MlflowException as error:
            _raise_unless_missing(error)
            existing = ", ".join(str(item.version) for item in self.versions()) or "none"
            raise InputMissing(
                f"There is no version {number} of {MODEL_NAME}.",
                expected=f"a registered version: {existing}.",
                remedy="choose one of these, or train a model.",
            ) from error

    def _read(self, number: int) -> ModelVersion:
        item = self._client.get_model_version(MODEL_NAME, str(number))
        return ModelVersion(
            version=int(item.version),
            uri=str(item.source),
            sha256=str(item.tags.get(SHA256_TAG, "")),
            aliases=tuple(sorted(item.aliases)),
            tags=dict(item.tags),
        )

    def _log_run(self, registration: Registration) -> str:
        run = self._client.create_run(self._experiment_id(), run_name=registration.training_id)
        run_id = str(run.info.run_id)
        now = int(run.info.start_time)
        metrics = [Metric(name, value, now, 0) for name, value in registration.metrics.items()]
        metrics += [
            Metric(f"epoch_{name}", value, now, epoch.epoch)
            for epoch in registration.epochs
            for name, value in epoch.values.items()
        ]
        params = [Param(name, str(value)) for name, value in registration.params.items()]
        tags = [RunTag(TRAINING_ID_TAG, registration.training_id)]
        self._client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        self._client.set_terminated(run_id)
        return run_id

    def _experiment_id(self) -> str:
        experiment = self._client.get_experiment_by_name(EXPERIMENT_NAME)
        if experiment is not None:
            return str(experiment.experiment_id)
        return str(
            self._client.create_experiment(EXPERIMENT_NAME, artifact_location=self.artifact_root)
        )

    def _ensure_model(self) -> None:
        try:
            self._client.get_registered_model(MODEL_NAME)
        except MlflowException as error:
            _raise_unless_missing(error)
            self._client.create_registered_model(MODEL_NAME)


def _raise_unless_missing(error: Any) -> None:
    """Raise an MLflow error again, unless it says that the resource does not exist."""
    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
        raise error


def _silence_store_logs() -> None:
    # MLflow logs one line per schema migration when it creates the store.
    for name in ("alembic", "alembic.runtime.migration", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
