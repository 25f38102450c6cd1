"""A person overrules a gate: for one run, with a reason, and never what guards the data itself.

A gate belongs to one job, so only that job's command can be told to go on. What was asked for is
kept in the run's record whatever came of it: the gate was overruled, it had passed anyway, or the
wish was refused because the gate found lost rows or columns that are not the table's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from feature_defs.errors import UsageError

# By the job that a gate can stop.
GATES = {
    "ingest": "gate 1 (delivery)",
    "features": "gate 2 (features)",
    "promote": "gate 3 (model)",
    "publish": "gate 4 (scores)",
}
# Kinds of checks that nobody overrules: after them no row is sure to be there, once and readable.
NEVER_OVERRULED = frozenset({"conservation", "schema"})

Outcome = Literal["overruled", "not needed", "refused"]


@dataclass(frozen=True)
class GateOverride:
    """Who accepts what a gate says no to, and why."""

    gate: str
    reason: str
    actor: str

    def as_record(self, outcome: Outcome) -> dict[str, Any]:
        """What the gate's record in `runs` keeps of it."""
        return {"reason": self.reason, "actor": self.actor, "outcome": outcome}


def names_of(gate: str) -> set[str]:
    """What a gate may be called on the command line.

    >>> sorted(names_of("gate 1 (delivery)"))
    ['delivery', 'gate 1', 'gate 1 (delivery)', 'gate-1']
    """
    number, word = gate.rstrip(")").split(" (")
    return {gate, number, number.replace(" ", "-"), word}


def override_from_options(job: str, accept: str | None, reason: str | None) -> GateOverride | None:
    """What `--accept` and `--reason` of a job's command say; nothing when neither was given.

    Raises:
        UsageError: one without the other, an unknown gate, or the gate of another job.
    """
    if accept is None and reason is None:
        return None
    own = GATES[job]
    word = own.rstrip(")").split("(")[1]
    if accept is None or reason is None or not reason.strip():
        raise UsageError(
            "--accept and --reason do not stand alone.",
            expected="the gate to overrule, and why: it is recorded and shown in the report.",
            remedy=f"give both, as in `--accept {word} --reason 'bank holiday'`.",
        )
    if accept not in names_of(own):
        owner = next((job for job, gate in GATES.items() if accept in names_of(gate)), None)
        raise UsageError(
            f"`{job}` has no gate {accept!r}"
            + (f": it is the gate of `{owner}`." if owner else "; no job has."),
            expected=f"{own}, written `{word}`.",
            remedy=f"correct --accept, or run `fraud-scoring {owner or job}` with it.",
        )
    from jobs.lake.runs import actor

    return GateOverride(own, reason.strip(), actor())
