"""Gate overrides: an operator overrides a gate for one run, with a reason.

A gate belongs to one job, so only that job's command accepts an override of it. Checks that
protect the data itself (conservation and schema) cannot be overridden. The run's record keeps the
request whatever its outcome: the gate was overridden, the gate passed anyway, or the override was
refused because rows were lost or the columns are not those of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from feature_defs.errors import UsageError

# The gate that can stop each job.
GATES = {
    "ingest": "gate 1 (delivery)",
    "features": "gate 2 (features)",
    "promote": "gate 3 (model)",
    "publish": "gate 4 (scores)",
}
# Kinds of checks that cannot be overridden. If one fails, rows may be lost, repeated or unreadable.
NEVER_OVERRIDDEN = frozenset({"conservation", "schema"})

Outcome = Literal["overruled", "not needed", "refused"]


@dataclass(frozen=True)
class GateOverride:
    """A request to override one gate."""

    gate: str
    reason: str
    actor: str
    """The operator who made the request."""

    def as_record(self, outcome: Outcome) -> dict[str, Any]:
        """Return what the gate's record in `runs` keeps of the request."""
        return {"reason": self.reason, "actor": self.actor, "outcome": outcome}


def gate_aliases(gate: str) -> set[str]:
    """Return the names of a gate that the command line accepts.

    >>> sorted(gate_aliases("gate 1 (delivery)"))
    ['delivery', 'gate 1', 'gate 1 (delivery)', 'gate-1']
    """
    number, word = gate.rstrip(")").split(" (")
    return {gate, number, number.replace(" ", "-"), word}


def short_name(gate: str) -> str:
    """Return the one-word name of a gate.

    >>> short_name("gate 1 (delivery)")
    'delivery'
    """
    return gate.rstrip(")").split("(")[1]


def override_from_options(job: str, accept: str | None, reason: str | None) -> GateOverride | None:
    """Return the override that `--accept` and `--reason` request; None if neither is set.

    Raises:
        UsageError: only one option is set, the gate is unknown, or it belongs to another job.
    """
    if accept is None and reason is None:
        return None
    gate = GATES[job]
    if accept is None or reason is None or not reason.strip():
        raise UsageError(
            "--accept and --reason must be used together.",
            expected="the gate to override and the reason, which is recorded and shown in the "
            "report.",
            remedy=f"set both, as in `--accept {short_name(gate)} --reason 'bank holiday'`.",
        )
    if accept not in gate_aliases(gate):
        owner = next((job for job, gate in GATES.items() if accept in gate_aliases(gate)), None)
        raise UsageError(
            f"`{job}` has no gate {accept!r}"
            + (f": it is the gate of `{owner}`." if owner else ", nor has any other job."),
            expected=f"{gate}, written as `{short_name(gate)}`.",
            remedy=f"correct --accept, or use it with `fraud-scoring {owner or job}`.",
        )
    from jobs.lake.runs import actor

    return GateOverride(gate, reason.strip(), actor())
