"""Model evaluation: out-of-time splits, metrics, bootstrap intervals, baselines."""
