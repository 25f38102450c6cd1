"""Recipes of a module outside the repository."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import fraud_models
from feature_defs.errors import UsageError
from fraud_models.recipes import RECIPES, lstm_autoencoder, recipe, with_own_recipes

README = Path(fraud_models.__file__).parent / "README.md"


def example() -> str:
    """Return the module that the README shows as the shortest complete example."""
    (block,) = (
        block
        for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        if "RECIPES" in block
    )
    return block


def written(folder: Path, text: str) -> str:
    path = folder / "bank_recipes.py"
    path.write_text(text)
    return str(path)


def test_example_of_the_readme_adds_a_recipe(tmp_path: Path) -> None:
    found = with_own_recipes(written(tmp_path, example()))
    (name,) = set(found) - set(RECIPES)
    config = recipe(name, found)
    assert config.recipe == name
    assert config != replace(lstm_autoencoder(), recipe=name)
    assert name not in RECIPES


def test_importable_module_adds_its_recipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, example())
    monkeypatch.syspath_prepend(tmp_path)
    assert set(with_own_recipes("bank_recipes")) > set(RECIPES)


def test_without_the_setting_there_are_the_built_in_recipes() -> None:
    assert with_own_recipes(None) is RECIPES


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("RECIPES = {'lstm_autoencoder': dict}", "names that are taken: lstm_autoencoder"),
        ("", "no usable RECIPES"),
        ("RECIPES = ['a']", "no usable RECIPES"),
        ("RECIPES = {'a': 3}", "no usable RECIPES"),
        ("import missing_package", "ModuleNotFoundError: No module named 'missing_package'"),
        ("RECIPES = {", "cannot be imported: SyntaxError"),
    ],
)
def test_unusable_module_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        with_own_recipes(written(tmp_path, text))


@pytest.mark.parametrize("location", ["no_such_module", "/no/such/file.py"])
def test_missing_module_is_refused(location: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be imported.*(No module|No such file)"):
        with_own_recipes(location)


def test_recipe_that_returns_no_config_or_reads_an_unknown_column_is_refused() -> None:
    own = {
        "empty": lambda: None,
        "unknown": lambda: replace(lstm_autoencoder(), columns=("a", *lstm_autoencoder().columns)),
    }
    with pytest.raises(UsageError, match="empty returns NoneType"):
        recipe("empty", own)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="columns without a feature: a"):
        recipe("unknown", own)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no recipe 'none'"):
        recipe("none", own)  # type: ignore[arg-type]
