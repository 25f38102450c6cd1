"""Definitions of the sources, features and labels. Nothing here computes anything.

The package `point_in_time` computes the features; all other modules need neither Spark nor torch.
"""
