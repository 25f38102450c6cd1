"""The source texts and tests that the mutation tests name still exist."""

from __future__ import annotations

import pytest
from test_guards import GUARDS, ROOT, Guard


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_guard_names_one_source_text_and_an_existing_test(guard: Guard) -> None:
    assert (ROOT / guard.file).read_text(encoding="utf-8").count(guard.text) == 1
    file, _, name = guard.test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")
