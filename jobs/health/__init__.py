"""Checks that `doctor` runs on the machine, the executors, the lake and its nights."""
