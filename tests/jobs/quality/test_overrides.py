"""What --accept and --reason may say."""

from __future__ import annotations

import re

import pytest

from feature_defs.errors import UsageError
from jobs.quality.overrides import GATES, override_from_options


def test_nothing_is_accepted_unless_asked() -> None:
    assert override_from_options("ingest", None, None) is None


@pytest.mark.parametrize("name", ["delivery", "gate 1", "gate-1", "gate 1 (delivery)"])
def test_a_gate_goes_by_its_number_or_its_word(name: str) -> None:
    found = override_from_options("ingest", name, " bank holiday ")
    assert found is not None
    assert (found.gate, found.reason) == (GATES["ingest"], "bank holiday")
    assert found.actor


@pytest.mark.parametrize(
    ("job", "accept", "reason", "words"),
    [
        ("ingest", "delivery", None, "do not stand alone"),
        ("ingest", "delivery", "  ", "do not stand alone"),
        ("ingest", None, "bank holiday", "do not stand alone"),
        ("ingest", "gate 9", "x", "no job has"),
        ("ingest", "all", "x", "no job has"),
        ("features", "scores", "x", "it is the gate of `publish`"),
        ("promote", "gate 4", "x", "it is the gate of `publish`"),
        ("publish", "delivery", "x", "it is the gate of `ingest`"),
    ],
)
def test_what_is_no_wish_is_refused(
    job: str, accept: str | None, reason: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(words)) as raised:
        override_from_options(job, accept, reason)
    assert raised.value.exit_code == 2
