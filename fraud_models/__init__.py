"""Models from events to scores: encoding, networks, training, calibration, model registry."""
