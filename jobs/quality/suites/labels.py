"""The part of gate 1 that looks at accepted labels."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.sources import LABELS as SOURCE
from jobs.lake.tables import LABELS
from jobs.quality.expectations import none_of, required
from jobs.quality.gate import Expectation
from jobs.quality.row_counts import NIGHT, Counted, Profile, copies

# A night's facts hold transactions too, so a label's go by names of their own.
PREFIX = "label_"


def counted(labels: DataFrame) -> list[Counted]:
    """Facts per night of accepted labels: nulls in one pass, keys in one shuffle."""
    names = required(LABELS)
    own = labels.select(NIGHT, *(F.col(name).alias(PREFIX + name) for name in names))
    nulls = Profile(required=[PREFIX + name for name in names])
    return [nulls.of(own), copies(labels, SOURCE.key, "label_copies")]


def nothing_counted() -> list[Counted]:
    """The same facts of nights without labels, for which nobody has to look."""
    missing = {f"{PREFIX}{name}_missing": 0 for name in required(LABELS)}
    return [Counted({}, {**missing, "label_copies": 0})]


def expectations() -> list[Expectation]:
    """What holds for accepted labels, whatever the rules have let through."""
    return [
        none_of(
            "label_copies",
            "label_keys_unique",
            "A label stands once for its transaction, moment and source.",
            "conservation",
            "{label_copies} rows more than keys",
        ),
        *(
            none_of(
                f"{PREFIX}{name}_missing",
                f"{PREFIX}{name}_given",
                f"Every label has its {name}.",
                "schema",
                f"{{{PREFIX}{name}_missing}} rows without",
            )
            for name in required(LABELS)
        ),
    ]
