"""Trained models as files and versions: checkpoint, MLflow, model card, ONNX, promotion."""
