"""Evaluation of models: eligible rows, baselines, ranking metrics and bootstrap intervals."""
