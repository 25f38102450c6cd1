"""A trained model as a folder: weights, and everything needed to use them.

    <uri>/weights.safetensors   tensors only: loading one can never run code
    <uri>/checkpoint.json       config, encoding, calibration, columns, data versions, and the
                                SHA-256 of the weights

The SHA-256 of `checkpoint.json` therefore identifies the whole model; the registry keeps it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from feature_defs.problems import InputMissing, Problem, UsageProblem
from fraud_models.calibration import Calibration
from fraud_models.config import ModelConfig
from fraud_models.encoding import Encoding
from fraud_models.rarity import Rarities
from fraud_models.storage import exists, join, read_bytes, sha256_of, write_bytes

FORMAT_VERSION = 1
WEIGHTS_FILE = "weights.safetensors"
CHECKPOINT_FILE = "checkpoint.json"
# What the names of a supervised head's weights begin with.
HEAD_WEIGHTS = "head"
RESTORE = "restore the folder from a backup, or train and promote a model again."


@dataclass(frozen=True)
class Checkpoint:
    """A trained model."""

    config: ModelConfig
    encoding: Encoding
    columns: Mapping[str, str]
    """Feature columns that the model reads, with the fingerprints of their definitions."""
    data_versions: Mapping[str, int]
    """Version of every table that the training data came from."""
    as_of: str
    """Date (YYYY-MM-DD) before whose 00:00 UTC all training data was known."""
    weights: Mapping[str, Tensor]
    calibration: Calibration | None = None
    """Unset until the model has ranked its validation nights."""
    rarities: Rarities | None = None
    """Of a model that ranks by them; unset until it has seen its validation nights."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Summary of the training run, as plain values."""

    @property
    def network_weights(self) -> dict[str, Tensor]:
        """Of the autoencoder."""
        head = f"{HEAD_WEIGHTS}."
        return {k: v for k, v in self.weights.items() if not k.startswith(head)}

    @property
    def head_weights(self) -> dict[str, Tensor]:
        """Of the supervised head, if there is one."""
        return part(self.weights, HEAD_WEIGHTS)

    def require_calibration(self) -> Calibration:
        """The calibration, without which a model ranks and does not score.

        Raises:
            Problem: there is none.
        """
        if self.calibration is None:
            raise Problem(
                "The model is not calibrated, so it can rank but not score.",
                expected="a checkpoint with a calibration.",
                remedy="finish its training job, which calibrates it on the validation nights.",
            )
        return self.calibration

    def check_columns(self, available: Mapping[str, str]) -> None:
        """Check that the columns of the model are there and mean what they meant.

        Raises:
            InputMissing: names every missing column and every one with another fingerprint.
        """
        missing = [name for name in self.columns if name not in available]
        changed = [
            f"{name} (model {mark}, now {available[name]})"
            for name, mark in self.columns.items()
            if name in available and available[name] != mark
        ]
        faults = []
        if missing:
            faults.append(f"missing columns: {', '.join(missing)}")
        if changed:
            faults.append(f"columns with another meaning: {', '.join(changed)}")
        if faults:
            raise InputMissing(
                f"The features do not fit the model; {'; '.join(faults)}.",
                expected="every column that the model was trained on, defined as it was then.",
                remedy="bring the old definitions back under their names, build the features of "
                "the context's days again, or promote a model trained on today's.",
            )


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those of a prefix, without it."""
    start = f"{prefix}."
    return {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}


def save_checkpoint(uri: str, checkpoint: Checkpoint) -> str:
    """Write a checkpoint; returns the SHA-256 of its `checkpoint.json`.

    The weights go first, so a folder with a `checkpoint.json` is complete.
    """
    weights = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.weights.items()}
    )
    write_bytes(join(uri, WEIGHTS_FILE), weights)
    calibration = checkpoint.calibration
    content = {
        "format_version": FORMAT_VERSION,
        "config": checkpoint.config.to_dict(),
        "encoding": checkpoint.encoding.to_dict(),
        "calibration": calibration.to_dict() if calibration else None,
        "rarities": checkpoint.rarities.to_dict() if checkpoint.rarities else None,
        "columns": dict(checkpoint.columns),
        "data_versions": dict(checkpoint.data_versions),
        "as_of": checkpoint.as_of,
        "training": dict(checkpoint.training),
        "weights_sha256": sha256_of(weights),
    }
    text = json.dumps(content, indent=1, allow_nan=False).encode()
    write_bytes(join(uri, CHECKPOINT_FILE), text)
    return sha256_of(text)


def load_checkpoint(uri: str, expected_sha256: str | None = None) -> Checkpoint:
    """Read a checkpoint and check it.

    Raises:
        InputMissing: a file is missing, cut short, altered or of an unknown format.
    """
    for name in (CHECKPOINT_FILE, WEIGHTS_FILE):
        if not exists(join(uri, name)):
            raise InputMissing(
                f"The checkpoint {uri} has no {name}.",
                expected=f"a folder with {CHECKPOINT_FILE} and {WEIGHTS_FILE}.",
                remedy=RESTORE,
            )
    text = read_bytes(join(uri, CHECKPOINT_FILE))
    if expected_sha256 is not None:
        _check_digest(join(uri, CHECKPOINT_FILE), text, expected_sha256)
    content = _parse(uri, text)
    weights = read_bytes(join(uri, WEIGHTS_FILE))
    _check_digest(join(uri, WEIGHTS_FILE), weights, content["weights_sha256"])
    try:
        tensors = safetensors.torch.load(weights)
        calibration = content["calibration"]
        # Written before there were any: a checkpoint without the word.
        rarities = content.get("rarities")
        return Checkpoint(
            config=ModelConfig.from_dict(content["config"]),
            encoding=Encoding.from_dict(content["encoding"]),
            calibration=Calibration.from_dict(calibration) if calibration else None,
            rarities=Rarities.from_dict(rarities) if rarities else None,
            columns=content["columns"],
            data_versions=content["data_versions"],
            as_of=content["as_of"],
            training=content["training"],
            weights=tensors,
        )
    except (KeyError, TypeError, ValueError, SafetensorError, UsageProblem) as error:
        raise _unreadable(uri, repr(error)) from error


def _parse(uri: str, text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
        version = content["format_version"]
        content["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(uri, f"{CHECKPOINT_FILE} is cut short or not JSON: {error!r}") from error
    if version != FORMAT_VERSION:
        raise InputMissing(
            f"The checkpoint {uri} has format {version}.",
            expected=f"format {FORMAT_VERSION}, the one this version reads.",
            remedy="use the version of this package that wrote it, or train a new model.",
        )
    return dict(content)


def _check_digest(path: str, content: bytes, expected: str) -> None:
    found = sha256_of(content)
    if found != expected:
        raise InputMissing(
            f"{path} was altered or cut short: its SHA-256 is {found}.",
            expected=f"{expected}.",
            remedy=RESTORE,
        )


def _unreadable(uri: str, why: str) -> InputMissing:
    return InputMissing(
        f"The checkpoint {uri} cannot be read: {why}.",
        expected=f"what this version writes as format {FORMAT_VERSION}.",
        remedy=RESTORE,
    )
