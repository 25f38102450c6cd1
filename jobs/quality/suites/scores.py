"""Gate 4: scores may be published if each accepted transaction has exactly one valid score.

Before publication, the gate counts the cards over the alert threshold, without the cap of the
budget. A broken model, or broken amounts, puts many times the usual number of cards over the
threshold, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import great_expectations.expectations as gxe

from jobs.lake.tables import SCORES
from jobs.quality.expectations import at_least, at_most, factors_to_median, within_factor_of_median
from jobs.quality.gate import Expectation
from jobs.quality.overrides import GATES
from jobs.quality.row_counts import NightFacts, Profile
from jobs.quality.staged_rows import StagedSuite

# In nats. Far above any real value; only infinity and NaN (counted as infinity) exceed it.
LARGEST = 1e12
# An attack can double the alerts and must not stop the night; this factor is far above that.
WRONG_ALERT_VOLUME = 5.0
# Model versions are numbers stored as text. Text that is not a number becomes -1, which differs
# from every version. A missing version stays null: another check reports it.
MODEL_NUMBER = (
    "CASE WHEN model_version IS NOT NULL THEN coalesce(try_cast(model_version AS bigint), -1) END"
)
EXTREMES = (("first", "min"), ("last", "max"))


def _expectations() -> list[Expectation]:
    return [
        Expectation(
            "one_model",
            "All scores of the night are from one model version.",
            gxe.ExpectColumnPairValuesToBeEqual(column_A="first_model", column_B="last_model"),
            "versions {first_model} to {last_model}",
            kind="model",
            if_missing="pass",
        ),
        at_least("score", 0),
        at_most("score", 1),
        *(
            template(column, bound)
            for column in ("reconstruction_error", "ranking_value")
            for template, bound in ((at_least, -LARGEST), (at_most, LARGEST))
        ),
        at_least("num_context_events", 0),
        within_factor_of_median(
            "factor",
            "alert_volume",
            "The number of cards over the threshold is between a fifth and five times the median "
            "of the nights before.",
            WRONG_ALERT_VOLUME,
            "{cards_over_threshold} cards over the threshold, median {median:g} before",
        ),
    ]


SUITE = StagedSuite(
    GATES["publish"],
    SCORES,
    row_name="a score",
    profile=Profile(
        range_columns=("score", "reconstruction_error", "ranking_value", "num_context_events"),
        # Compare versions as numbers: to find the smallest text, Spark would sort all rows.
        aggregates={f"{name}_model": f"{which}({MODEL_NUMBER})" for name, which in EXTREMES},
    ),
    further_expectations=_expectations,
)


def alert_volume(tonight: Mapping[date, int], history: Mapping[date, int]) -> NightFacts:
    """Return each night's cards over the threshold, compared with up to 28 nights before."""
    factors = factors_to_median(tonight, history)
    return NightFacts(
        {day: {"cards_over_threshold": n, **factors[day]} for day, n in tonight.items()},
        {"cards_over_threshold": 0, "factor": None, "median": None},
    )
