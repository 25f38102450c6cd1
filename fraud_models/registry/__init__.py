"""Trained models as files and versions: checkpoints, MLflow, model card, ONNX, promotion."""
