"""Gate 3: may a model become champion? One row of facts compares two evaluations.

The incumbent is the champion, or the isolation forest while there is no champion. If a metric is
missing or NaN on either side, the comparison fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import great_expectations.expectations as gxe

from fraud_models.registry.promotion import COMPARED_METRICS, margins
from jobs.quality.expectations import must_be_zero
from jobs.quality.gate import Expectation, GateResult, validate
from jobs.quality.overrides import GATES

GATE = GATES["promote"]


def expectations() -> list[Expectation]:
    """Return the expectations on the one row of `facts` and `sample_facts`."""
    return [
        must_be_zero(
            "row_count_difference",
            "same_rows",
            "Both models were evaluated on the same number of rows.",
            "conservation",
            "{num_transactions} rows, {incumbent_num_transactions} for the incumbent",
        ),
        Expectation(
            "out_of_sample",
            "The model was not trained on any night of its evaluation.",
            gxe.ExpectColumnValuesToBeBetween(column="days_unseen", min_value=0),
            "trained as of {as_of}, evaluated from {evaluated_from}",
            kind="model",
        ),
        *(
            Expectation(
                f"{name}_at_least_incumbent",
                f"{name} is at least the incumbent's on the same rows.",
                gxe.ExpectColumnValuesToBeBetween(column=f"{name}_margin", min_value=0),
                f"{{{name}}} compared with {{incumbent_{name}}} of {{incumbent}}",
                kind="figures",
            )
            for name in COMPARED_METRICS
        ),
    ]


def facts(
    figures: Mapping[str, Mapping[str, Any]], candidate: str, incumbent: str
) -> dict[str, Any]:
    """Return the metrics of both models, and the margins of the candidate over the incumbent."""
    ours, theirs = figures[candidate], figures[incumbent]
    rows, their_rows = ours.get("num_transactions"), theirs.get("num_transactions")
    return {
        "incumbent": incumbent,
        "row_count_difference": (
            None if rows is None or their_rows is None else abs(rows - their_rows)
        ),
        "num_transactions": rows,
        "incumbent_num_transactions": their_rows,
        **{name: ours.get(name) for name in COMPARED_METRICS},
        **{f"incumbent_{name}": theirs.get(name) for name in COMPARED_METRICS},
        **{f"{name}_margin": margin for name, margin in margins(ours, theirs).items()},
    }


def sample_facts(as_of: date, evaluated_from: date) -> dict[str, Any]:
    """Return the number of days from the end of the training data to the evaluated nights."""
    return {
        "as_of": as_of,
        "evaluated_from": evaluated_from,
        "days_unseen": (evaluated_from - as_of).days,
    }


def run_checks(row: Mapping[str, Any]) -> GateResult:
    """Run the gate on one row with both parts of the facts."""
    return validate(GATE, expectations(), [row])
