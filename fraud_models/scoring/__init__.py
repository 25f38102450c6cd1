"""Scoring with a trained model: reconstruction, ranking, calibration, reasons."""
