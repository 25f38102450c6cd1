"""An exported ONNX file gives the same outputs as the scorer."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch

from feature_defs.errors import FraudScoringError
from fraud_models.config import RANKINGS
from fraud_models.networks import ARCHITECTURES, build
from fraud_models.registry import onnx_export
from fraud_models.registry.onnx_export import OUTPUTS, to_onnx
from fraud_models.scoring.scorer import Scorer, score_stream
from fraud_models.scoring.trained_model import TrainedModel
from tests.fraud_models.category_model import (
    CATEGORY_COLUMNS,
    VOCABULARIES,
    category_model,
    category_stream,
    randomised,
)
from tests.fraud_models.conftest import COLUMNS, FINGERPRINTS

pytestmark = pytest.mark.slow


def of_architecture(name: str, model: TrainedModel) -> TrainedModel:
    network = replace(model.config.network, architecture=name, num_layers=2, hidden_width=8)
    torch.manual_seed(5)
    encoding = model.encoding
    weights = build(network, encoding.num_inputs, encoding.num_channels).state_dict()
    return replace(model, config=replace(model.config, network=network), weights=weights)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_export_of_every_architecture_passes_the_comparison(name: str, model: TrainedModel) -> None:
    assert to_onnx(of_architecture(name, model), "digest")


def test_exported_scores_equal_scorer_for_every_ranking(any_model: TrainedModel) -> None:
    content = to_onnx(any_model, "digest")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["contexts", "events", len(COLUMNS)]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["columns"]) == FINGERPRINTS
    assert metadata["checkpoint_sha256"] == "digest"
    # A shape that the export has not compared.
    values = onnx_export._example_values(any_model, (5, 67))
    values[0, 3, 0] = 1e7
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"values": values}), strict=True))
    expected = dict(zip(OUTPUTS, onnx_export._scorer_outputs(any_model, values), strict=True))
    np.testing.assert_allclose(found["score"], expected["score"], rtol=0, atol=1e-5)
    for name in ("reconstruction_error", "ranking_value"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)
    assert len(np.unique(found["score"])) > 100


def test_export_with_different_outputs_is_rejected(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    altered = replace(model, weights={k: w * 1.001 for k, w in model.weights.items()})
    export = onnx_export._export
    monkeypatch.setattr(
        onnx_export,
        "_export",
        lambda network, model, sha256: export(
            onnx_export._ExportedModel(altered, model.calibration).eval(), model, sha256
        ),
    )
    with pytest.raises(FraudScoringError, match="differ on contexts"):
        to_onnx(model, "digest")


def test_export_of_an_uncalibrated_model_is_rejected(model: TrainedModel) -> None:
    with pytest.raises(FraudScoringError, match="not calibrated"):
        to_onnx(replace(model, calibration=None), "digest")


def of_architecture_with_categories(name: str) -> TrainedModel:
    base = category_model()
    network = replace(base.config.network, architecture=name, num_layers=2, hidden_width=8)
    torch.manual_seed(5)
    encoding = base.encoding
    built = build(network, encoding.num_inputs, encoding.num_channels, encoding.class_counts)
    weights = randomised(built).state_dict()
    return replace(base, config=replace(base.config, network=network), weights=weights)


# With a memory and without one; the categories of all others are read like the first one's.
@pytest.mark.parametrize("name", ["lstm_autoencoder", "feed_forward_autoencoder"])
def test_export_with_categories_passes_the_comparison(name: str) -> None:
    assert to_onnx(of_architecture_with_categories(name), "digest")


@pytest.mark.parametrize("ranking", RANKINGS)
def test_exported_categories_are_codes_of_the_metadata(ranking: str) -> None:
    model = category_model(ranking)
    content = to_onnx(model, "digest")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [(item.name, item.type) for item in session.get_inputs()] == [
        ("values", "tensor(float)"),
        ("categories", "tensor(int64)"),
    ]
    metadata = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(metadata["columns"])) == CATEGORY_COLUMNS
    vocabularies = json.loads(metadata["vocabularies"])
    assert vocabularies == {name: list(v.values) for name, v in VOCABULARIES.items()}
    # As another system would do it: from the event stream, by the metadata alone.
    stream = category_stream([15])
    columns = dict(zip(stream.schema.names, stream.columns, strict=True))
    stream = pa.RecordBatch.from_pydict({**columns, "role": pa.array([1] * 15, pa.int32())})
    numeric = [name for name in CATEGORY_COLUMNS if name not in vocabularies]
    values = [stream.column(name).cast(pa.float32()).to_numpy(False) for name in numeric]
    codes = [
        [
            -1 if text is None else known.index(text) if text in known else len(known)
            for text in stream.column(name).to_pylist()
        ]
        for name, known in vocabularies.items()
    ]
    feeds = {
        "values": np.stack(values, axis=-1)[None].astype(np.float32),
        "categories": np.array(codes, dtype=np.int64).T[None],
    }
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), feeds), strict=True))
    (table,) = score_stream([stream], Scorer(model), ("transaction_id",))
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name][0], table.column(name), rtol=1e-5, atol=1e-5)
