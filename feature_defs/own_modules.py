"""Import a module that a bank has written: definitions or recipes of its own."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from feature_defs.errors import UsageError


def import_own(location: str, setting: str) -> ModuleType:
    """Import a module by its name, or from the path of a .py file. Its code is run.

    Raises:
        UsageError: the module cannot be imported; correct it, or the setting.
    """
    try:
        if not location.endswith(".py"):
            return importlib.import_module(location)
        spec = importlib.util.spec_from_file_location(Path(location).stem, location)
        assert spec is not None and spec.loader is not None, "a .py file has a loader"
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:
        # The module is code of someone else, which may raise anything.
        raise UsageError(
            f"The {setting} in {location} cannot be imported: {type(error).__name__}: {error}.",
            expected="the name of an importable module, or the path of a .py file.",
            remedy=f"correct the module, or the setting `{setting}` (FRAUD_{setting.upper()}).",
        ) from error
    return module
