"""Tensors in, scores out: encoding, networks, training, calibration and the model registry."""
