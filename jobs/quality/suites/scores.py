"""Gate 4: scores may be published when each accepted transaction has exactly one sane score.

Before anybody sees them, the cards that would pass the threshold are counted, without the cap of
the budget: a broken model, or broken amounts, sends many times the usual cards over it, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import great_expectations.expectations as gxe

from jobs.lake.tables import SCORES
from jobs.quality.expectations import at_least, at_most, factors, steady
from jobs.quality.gate import Expectation
from jobs.quality.overrides import GATES
from jobs.quality.row_counts import Counted, Profile
from jobs.quality.staged_rows import StagedSuite

# In nats: no likelihood comes near; what does is an infinity or no number.
LARGEST = 1e12
# An attack may double the alerts, and must not be held back; this is more than an attack.
WRONG_ALERT_VOLUME = 5.0
# Versions are numbers kept as text; one that is none differs from all that are. That one is
# missing is another check's to find.
MODEL_NUMBER = (
    "CASE WHEN model_version IS NOT NULL THEN coalesce(try_cast(model_version AS bigint), -1) END"
)
EXTREMES = (("first", "min"), ("last", "max"))


def _expectations() -> list[Expectation]:
    return [
        Expectation(
            "one_model",
            "One model has scored the whole night.",
            gxe.ExpectColumnPairValuesToBeEqual(column_A="first_model", column_B="last_model"),
            "models {first_model} to {last_model}",
            kind="model",
            unknown="holds",
        ),
        at_least("score", 0),
        at_most("score", 1),
        *(
            form(column, bound)
            for column in ("reconstruction_error", "ranking_value")
            for form, bound in ((at_least, -LARGEST), (at_most, LARGEST))
        ),
        at_least("num_context_events", 0),
        steady(
            "factor",
            "alert_volume",
            "Between a fifth and five times the usual number of cards pass the threshold.",
            WRONG_ALERT_VOLUME,
            "{cards_over_threshold} cards pass the threshold, a median of {usual:g} before",
        ),
    ]


SUITE = StagedSuite(
    GATES["publish"],
    SCORES,
    row_is="a score",
    profile=Profile(
        ranged=("score", "reconstruction_error", "ranking_value", "num_context_events"),
        # Numbers: the least of texts would be found by sorting the rows.
        counted={f"{place}_model": f"{which}({MODEL_NUMBER})" for place, which in EXTREMES},
    ),
    own=_expectations,
)


def alert_volume(tonight: Mapping[date, int], history: Mapping[date, int]) -> Counted:
    """The cards that pass the threshold, beside those of up to 28 nights before."""
    beside = factors(tonight, history)
    return Counted(
        {day: {"cards_over_threshold": n, **beside[day]} for day, n in tonight.items()},
        {"cards_over_threshold": 0, "factor": None, "usual": None},
    )
