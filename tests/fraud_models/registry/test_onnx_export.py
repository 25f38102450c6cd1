"""An ONNX file says what the model says."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch

from feature_defs.errors import FraudScoringError
from fraud_models.networks import ARCHITECTURES, build
from fraud_models.registry import onnx_export
from fraud_models.registry.onnx_export import OUTPUTS, to_onnx
from fraud_models.scoring.trained_model import TrainedModel
from tests.fraud_models.conftest import COLUMNS, FINGERPRINTS

pytestmark = pytest.mark.slow


def of_architecture(name: str, checkpoint: TrainedModel) -> TrainedModel:
    network = replace(checkpoint.config.network, architecture=name, num_layers=2, hidden_width=8)
    torch.manual_seed(5)
    encoding = checkpoint.encoding
    weights = build(network, encoding.num_inputs, encoding.num_channels).state_dict()
    return replace(checkpoint, config=replace(checkpoint.config, network=network), weights=weights)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_architecture_is_exported_and_compared(name: str, checkpoint: TrainedModel) -> None:
    assert to_onnx(of_architecture(name, checkpoint), "digest")


def test_every_ranking_scores_equal_in_onnxruntime(any_checkpoint: TrainedModel) -> None:
    content = to_onnx(any_checkpoint, "digest")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["contexts", "events", len(COLUMNS)]
    known = session.get_modelmeta().custom_metadata_map
    assert json.loads(known["columns"]) == FINGERPRINTS
    assert known["checkpoint_sha256"] == "digest"
    # Shapes that the export itself has not looked at.
    values = onnx_export._plausible(any_checkpoint, (5, 67))
    values[0, 3, 0] = 1e7
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"values": values}), strict=True))
    wanted = dict(zip(OUTPUTS, onnx_export._by_scorer(any_checkpoint, values), strict=True))
    np.testing.assert_allclose(found["score"], wanted["score"], rtol=0, atol=1e-5)
    for name in ("reconstruction_error", "ranking_value"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-5)
    assert len(np.unique(found["score"])) > 100


def test_a_file_that_says_something_else_is_not_handed_out(
    checkpoint: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = replace(checkpoint, weights={k: w * 1.001 for k, w in checkpoint.weights.items()})
    written = onnx_export._written
    monkeypatch.setattr(
        onnx_export,
        "_written",
        lambda model, checkpoint, sha256: written(
            onnx_export._WholeModel(moved, checkpoint.calibration).eval(), checkpoint, sha256
        ),
    )
    with pytest.raises(FraudScoringError, match="differ on contexts"):
        to_onnx(checkpoint, "digest")


def test_a_model_that_is_not_calibrated_is_refused(checkpoint: TrainedModel) -> None:
    with pytest.raises(FraudScoringError, match="not calibrated"):
        to_onnx(replace(checkpoint, calibration=None), "digest")
