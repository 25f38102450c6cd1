"""Gate 3: may a model go into service? One row of facts: two evaluations, side by side.

The incumbent is the champion, or the isolation forest before there is one. A figure that is
missing or NaN on either side cannot decide, which is a no.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import great_expectations.expectations as gxe

from fraud_models.registry.promotion import JUDGED, margins
from jobs.quality.expectations import none_of
from jobs.quality.gate import Expectation, GateResult, validate
from jobs.quality.overrides import GATES

GATE = GATES["promote"]


def expectations() -> list[Expectation]:
    """Over the one row of `facts`."""
    return [
        none_of(
            "rows_apart",
            "same_rows",
            "Both were judged on as many rows.",
            "conservation",
            "{num_transactions} rows, {incumbent_num_transactions} of the incumbent",
        ),
        Expectation(
            "out_of_sample",
            "The model has seen none of the nights that it is judged on.",
            gxe.ExpectColumnValuesToBeBetween(column="days_unseen", min_value=0),
            "trained as of {as_of}, judged from {judged_from} on",
            kind="model",
        ),
        *(
            Expectation(
                f"{name}_at_least_incumbent",
                f"{name} is at least the incumbent's on the same rows.",
                gxe.ExpectColumnValuesToBeBetween(column=f"{name}_margin", min_value=0),
                f"{{{name}}} against {{incumbent_{name}}} of {{incumbent}}",
                kind="figures",
            )
            for name in JUDGED
        ),
    ]


def facts(
    figures: Mapping[str, Mapping[str, Any]], candidate: str, incumbent: str
) -> dict[str, Any]:
    """The figures of both, by name, and by how much the candidate's are larger."""
    ours, theirs = figures[candidate], figures[incumbent]
    rows, their_rows = ours.get("num_transactions"), theirs.get("num_transactions")
    return {
        "incumbent": incumbent,
        "rows_apart": None if rows is None or their_rows is None else abs(rows - their_rows),
        "num_transactions": rows,
        "incumbent_num_transactions": their_rows,
        **{name: ours.get(name) for name in JUDGED},
        **{f"incumbent_{name}": theirs.get(name) for name in JUDGED},
        **{f"{name}_margin": margin for name, margin in margins(ours, theirs).items()},
    }


def sample_facts(as_of: date, judged_from: date) -> dict[str, Any]:
    """How many days lie between what the model learned from and what it is judged on."""
    return {"as_of": as_of, "judged_from": judged_from, "days_unseen": (judged_from - as_of).days}


def judge(row: Mapping[str, Any]) -> GateResult:
    """The gate over both parts of the facts."""
    return validate(GATE, expectations(), [row])
