"""Connect tables and models: contexts, training snapshots, calibration, scoring on executors."""
