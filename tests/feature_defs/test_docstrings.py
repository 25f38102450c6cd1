"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import feature_defs

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(feature_defs.__path__, "feature_defs.")
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_give_the_printed_result(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0
