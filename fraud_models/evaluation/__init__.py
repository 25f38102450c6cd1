"""Judging a model: splits out of time, metrics, bootstrap intervals, baselines."""
