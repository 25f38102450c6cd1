"""What `make test-guards` takes out is still where it looks for it."""

from __future__ import annotations

import pytest
from test_guards import GUARDS, ROOT, Guard


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_stands_where_it_is_looked_for(guard: Guard) -> None:
    assert (ROOT / guard.file).read_text(encoding="utf-8").count(guard.text) == 1
    place, _, name = guard.test.partition("::")
    assert f"def {name}(" in (ROOT / place).read_text(encoding="utf-8")
