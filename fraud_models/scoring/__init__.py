"""From a trained model to scores: reconstruction, ranking, calibration, reasons."""
