"""What is accepted: rules for single rows, gates for whole nights, drift, alert volume."""
