"""Every module has a docstring, and the examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import fraud_models

# Importing Spark and MLflow takes seconds, and these modules have no examples.
SLOW_IMPORTS = {"fraud_models.training.distributed", "fraud_models.registry.mlflow_registry"}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(fraud_models.__path__, "fraud_models.")
    if module.name not in SLOW_IMPORTS
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0
