"""Save a trained model to a folder, and load it again with every byte verified.

    <uri>/weights.safetensors   tensors only: loading them cannot run code
    <uri>/checkpoint.json       config, encoding, calibration, columns, data versions, and the
                                SHA-256 of the weights

The SHA-256 of `checkpoint.json` therefore identifies the whole model; the registry stores it.
"""

from __future__ import annotations

import json
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from feature_defs.errors import InputMissing, UsageError
from fraud_models.config import ModelConfig
from fraud_models.scoring.calibration import Calibration
from fraud_models.scoring.rarity import Rarities
from fraud_models.scoring.trained_model import TrainedModel
from fraud_models.sequences.encoding import Encoding
from fraud_models.storage import exists, join, read_bytes, sha256_of, write_bytes

FORMAT_VERSION = 1
WEIGHTS_FILE = "weights.safetensors"
CHECKPOINT_FILE = "checkpoint.json"
RESTORE_REMEDY = "restore the folder from a backup, or train and promote a model again."


def save_checkpoint(uri: str, model: TrainedModel) -> str:
    """Write a checkpoint; return the SHA-256 of its `checkpoint.json`.

    The weights are written first, so a folder that has a `checkpoint.json` is complete.
    """
    weights = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in model.weights.items()}
    )
    write_bytes(join(uri, WEIGHTS_FILE), weights)
    calibration = model.calibration
    content = {
        "format_version": FORMAT_VERSION,
        "config": model.config.to_dict(),
        "encoding": model.encoding.to_dict(),
        "calibration": calibration.to_dict() if calibration else None,
        "rarities": model.rarities.to_dict() if model.rarities else None,
        "columns": dict(model.columns),
        "data_versions": dict(model.data_versions),
        "as_of": model.as_of,
        "training": dict(model.training),
        "weights_sha256": sha256_of(weights),
    }
    text = json.dumps(content, indent=1, allow_nan=False).encode()
    write_bytes(join(uri, CHECKPOINT_FILE), text)
    return sha256_of(text)


def load_checkpoint(uri: str, expected_sha256: str | None = None) -> TrainedModel:
    """Load a checkpoint and verify its digests.

    Raises:
        InputMissing: a file is missing, truncated, altered or of an unknown format; restore the
            folder from a backup, or train and promote a model again.
    """
    for name in (CHECKPOINT_FILE, WEIGHTS_FILE):
        if not exists(join(uri, name)):
            raise InputMissing(
                f"The checkpoint {uri} has no {name}.",
                expected=f"a folder with {CHECKPOINT_FILE} and {WEIGHTS_FILE}.",
                remedy=RESTORE_REMEDY,
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
        # Checkpoints of models without rarities may lack the key.
        rarities = content.get("rarities")
        return TrainedModel(
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
    except (KeyError, TypeError, ValueError, SafetensorError, UsageError) as error:
        raise _unreadable(uri, repr(error)) from error


def _parse(uri: str, text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
        version = content["format_version"]
        content["weights_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{CHECKPOINT_FILE} is truncated or not valid JSON: {error!r}"
        raise _unreadable(uri, reason) from error
    if version != FORMAT_VERSION:
        raise InputMissing(
            f"The checkpoint {uri} has format {version}.",
            expected=f"format {FORMAT_VERSION}, which this version reads.",
            remedy="use the version of this package that wrote it, or train a new model.",
        )
    return dict(content)


def _check_digest(path: str, content: bytes, expected: str) -> None:
    actual = sha256_of(content)
    if actual != expected:
        raise InputMissing(
            f"{path} was altered or truncated: its SHA-256 is {actual}.",
            expected=f"{expected}.",
            remedy=RESTORE_REMEDY,
        )


def _unreadable(uri: str, reason: str) -> InputMissing:
    return InputMissing(
        f"The checkpoint {uri} cannot be read: {reason}.",
        expected=f"a checkpoint as this version writes it, format {FORMAT_VERSION}.",
        remedy=RESTORE_REMEDY,
    )
