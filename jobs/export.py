"""Write a model as one ONNX file, for systems that score without Spark or torch.

Reads   the registry, _models/<training id>
Writes  one file, outside of the tables
Fails   when the model is missing or damaged, or onnxruntime and the model give different results

    fraud-scoring export --lake L --model champion --out champion.onnx
"""

from __future__ import annotations

from fraud_models.registry.onnx_export import to_onnx
from fraud_models.storage import write_bytes
from jobs.lake.delta_io import Lake
from jobs.models.model_store import open_registry, read_checkpoint


def run(lake: Lake, model: str, out: str) -> int:
    """Write a model as an ONNX file and return the model's version.

    Raises:
        InputMissing: there is no such model, it is damaged, or ONNX is not installed.
        FraudScoringError: the ONNX file and the model give different results.
    """
    version = open_registry(lake).resolve(model)
    write_bytes(out, to_onnx(read_checkpoint(version), version.sha256))
    return version.version
