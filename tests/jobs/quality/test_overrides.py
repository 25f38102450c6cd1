"""Gate overrides: which values of --accept and --reason are valid."""

from __future__ import annotations

import re

import pytest

from feature_defs.errors import UsageError
from jobs.quality.overrides import GATES, override_from_options


def test_override_without_options_is_none() -> None:
    assert override_from_options("ingest", None, None) is None


@pytest.mark.parametrize("name", ["delivery", "gate 1", "gate-1", "gate 1 (delivery)"])
def test_override_accepts_every_alias_of_the_gate(name: str) -> None:
    override = override_from_options("ingest", name, " bank holiday ")
    assert override is not None
    assert (override.gate, override.reason) == (GATES["ingest"], "bank holiday")
    assert override.actor


@pytest.mark.parametrize(
    ("job", "accept", "reason", "message"),
    [
        ("ingest", "delivery", None, "must be used together"),
        ("ingest", "delivery", "  ", "must be used together"),
        ("ingest", None, "bank holiday", "must be used together"),
        ("ingest", "gate 9", "x", "nor has any other job"),
        ("ingest", "all", "x", "nor has any other job"),
        ("features", "scores", "x", "it is the gate of `publish`"),
        ("promote", "gate 4", "x", "it is the gate of `publish`"),
        ("publish", "delivery", "x", "it is the gate of `ingest`"),
    ],
)
def test_override_with_invalid_options_raises_usage_error(
    job: str, accept: str | None, reason: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as raised:
        override_from_options(job, accept, reason)
    assert raised.value.exit_code == 2
