"""Champion and challenger: the one door to MLflow.

A model version points at a checkpoint folder and carries the SHA-256 of its `checkpoint.json`;
aliases say which version is in service. Weights never go through MLflow, so the lake stays the
one place of models and a remote tracking server needs no access to it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read once, on import: nothing may call out of the bank's network.
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
# More than any registry will ever have, and no more than its database can count.
MAX_VERSION_DIGITS = 9
SHA256_TAG, TRAINING_ID_TAG = "sha256", "training_id"


@dataclass(frozen=True)
class ModelVersion:
    """A registered model."""

    version: int
    uri: str
    """Folder of the checkpoint."""
    sha256: str
    """Of its `checkpoint.json`."""
    aliases: tuple[str, ...]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class EpochMetrics:
    """Figures of one training epoch."""

    epoch: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Registration:
    """What is registered."""

    uri: str
    """Folder of the checkpoint."""
    sha256: str
    """Of its `checkpoint.json`."""
    training_id: str
    """Identifies the training: registering it twice gives the same version."""
    params: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    epochs: Sequence[EpochMetrics] = ()
    tags: Mapping[str, str] | None = None
    description: str = ""
    """Where the model card is."""


class Registry:
    """Model versions in an MLflow store.

    `tracking_uri` is `sqlite:///<path>` or a server's address; `artifact_root` a folder or URI.
    """

    def __init__(self, tracking_uri: str, artifact_root: str) -> None:
        self.tracking_uri = tracking_uri
        self.artifact_root = artifact_root
        _quiet()
        if tracking_uri.startswith("sqlite:///"):
            Path(tracking_uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)

    def register(self, registration: Registration) -> int:
        """Register a checkpoint as a new version; returns its number.

        Safe to repeat: a training that is registered already keeps its version.
        """
        known = self.find_by_training_id(registration.training_id)
        if known is not None and known.sha256 == registration.sha256:
            return known.version
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
        """The newest version of a training, if it was registered."""
        matching = [v for v in self.versions() if v.tags.get(TRAINING_ID_TAG) == training_id]
        return matching[-1] if matching else None

    def versions(self) -> list[ModelVersion]:
        """All versions, oldest first."""
        found: list[ModelVersion] = []
        token: str | None = None
        while True:
            page = self._client.search_model_versions(f"name='{MODEL_NAME}'", page_token=token)
            # The search leaves aliases out, so each version is read by itself.
            found += [self._read(int(item.version)) for item in page]
            token = page.token
            if not token:
                return sorted(found, key=lambda item: item.version)

    def set_alias(self, alias: str, version: int) -> None:
        """Point an alias at a version.

        Raises:
            UsageError: no such alias. InputMissing: no such version.
        """
        if alias not in ALIASES:
            raise UsageError(
                f"There is no alias {alias!r}.",
                expected=f"one of: {', '.join(ALIASES)}.",
                remedy="choose one of these.",
            )
        self.resolve(version)
        self._client.set_registered_model_alias(MODEL_NAME, alias, str(version))

    def resolve(self, alias_or_version: str | int) -> ModelVersion:
        """The version that an alias points at, or that has this number. Never a default.

        Raises:
            InputMissing: no such alias or version.
        """
        text = str(alias_or_version)
        if text.isascii() and text.isdigit() and len(text) <= MAX_VERSION_DIGITS:
            return self._version(int(text))
        aliases = self.list_aliases()
        if text not in aliases:
            raise InputMissing(
                f"There is no {text or 'model without a name'} yet.",
                expected=f"an alias that is set ({', '.join(sorted(aliases)) or 'none is'}) or a "
                "version's number.",
                remedy="train, evaluate and promote one (`fraud-scoring train`, `evaluate`, "
                "`promote`).",
            )
        return self._version(aliases[text])

    def list_aliases(self) -> dict[str, int]:
        """Version per alias."""
        try:
            model = self._client.get_registered_model(MODEL_NAME)
        except MlflowException as error:
            _only_missing(error)
            return {}
        return {alias: int(version) for alias, version in model.aliases.items()}

    def _version(self, number: int) -> ModelVersion:
        try:
            return self._read(number)
        except MlflowException as error:
            _only_missing(error)
            known = ", ".join(str(item.version) for item in self.versions()) or "none"
            raise InputMissing(
                f"There is no version {number} of {MODEL_NAME}.",
                expected=f"a registered version: {known}.",
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
        known = self._client.get_experiment_by_name(EXPERIMENT_NAME)
        if known is not None:
            return str(known.experiment_id)
        return str(
            self._client.create_experiment(EXPERIMENT_NAME, artifact_location=self.artifact_root)
        )

    def _ensure_model(self) -> None:
        try:
            self._client.get_registered_model(MODEL_NAME)
        except MlflowException as error:
            _only_missing(error)
            self._client.create_registered_model(MODEL_NAME)


def _only_missing(error: Any) -> None:
    """Let every failure pass but "there is none"."""
    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
        raise error


def _quiet() -> None:
    # Creating the store logs a line per schema migration.
    for name in ("alembic", "alembic.runtime.migration", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
