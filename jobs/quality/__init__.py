"""Data quality: row rules, validation gates for whole nights, drift, and alert volume."""
