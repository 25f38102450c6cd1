"""The part of gate 1 that looks at accepted labels."""

from __future__ import annotations

import great_expectations.expectations as gxe

from jobs.quality.gate import Expectation


def expectations() -> list[Expectation]:
    """What holds for accepted labels, whatever the rules have let through."""
    return [
        Expectation(
            "label_keys_unique",
            "A label stands once for its transaction, moment and source.",
            gxe.ExpectCompoundColumnsToBeUnique(
                column_list=["transaction_id", "label_time", "source"]
            ),
        ),
        *(
            Expectation(
                f"label_{name}_given",
                f"Every label has its {name}.",
                gxe.ExpectColumnValuesToNotBeNull(column=name),
            )
            for name in ("transaction_id", "is_fraud", "label_time", "source")
        ),
    ]
