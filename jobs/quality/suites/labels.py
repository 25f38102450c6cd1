"""The part of gate 1 that checks accepted labels."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.sources import LABELS as SOURCE
from jobs.lake.tables import LABELS
from jobs.quality.expectations import must_be_zero, required_columns
from jobs.quality.gate import Expectation
from jobs.quality.row_counts import NIGHT, NightFacts, Profile, count_duplicates

# The facts of a night also cover transactions, so the names of label facts have a prefix.
PREFIX = "label_"


def compute_facts(labels: DataFrame) -> list[NightFacts]:
    """Return facts per night of accepted labels: nulls in one pass, duplicates in one shuffle."""
    names = required_columns(LABELS)
    prefixed = labels.select(NIGHT, *(F.col(name).alias(PREFIX + name) for name in names))
    nulls = Profile(required_columns=[PREFIX + name for name in names])
    return [nulls.compute(prefixed), count_duplicates(labels, SOURCE.key, "label_duplicates")]


def facts_without_labels() -> list[NightFacts]:
    """Return the same facts for nights without labels; this needs no pass over data."""
    missing = {f"{PREFIX}{name}_missing": 0 for name in required_columns(LABELS)}
    return [NightFacts({}, {**missing, "label_duplicates": 0})]


def expectations() -> list[Expectation]:
    """Return the expectations on accepted labels, which do not rely on the row rules."""
    return [
        must_be_zero(
            "label_duplicates",
            "label_keys_unique",
            "Labels are unique per transaction, label time and source.",
            "conservation",
            "{label_duplicates} duplicate rows",
        ),
        *(
            must_be_zero(
                f"{PREFIX}{name}_missing",
                f"{PREFIX}{name}_given",
                f"The {name} of a label is never null.",
                "schema",
                f"{{{PREFIX}{name}_missing}} labels without {name}",
            )
            for name in required_columns(LABELS)
        ),
    ]
