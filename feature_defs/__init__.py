"""Definitions of the sources, features and labels. Nothing here computes anything.

The package `point_in_time` computes; importing any other module needs neither Spark nor torch.
"""
