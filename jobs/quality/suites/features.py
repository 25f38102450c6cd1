"""Gate 2: features may be scored when there is one sane row per accepted transaction."""

from __future__ import annotations

from feature_defs.catalogue import FEATURES
from feature_defs.feature import Feature, Function, Kind
from jobs.lake.tables import FEATURES_TABLE
from jobs.quality.expectations import at_least, at_most, none_of
from jobs.quality.gate import Expectation
from jobs.quality.overrides import GATES
from jobs.quality.row_counts import Profile
from jobs.quality.staged_rows import StagedSuite

# No sum of a bank comes near; what does is an infinity or no number.
LARGEST = 1e15


def _expectations() -> list[Expectation]:
    return [item for feature in FEATURES.values() for item in _of_feature(feature)]


def _of_feature(feature: Feature) -> list[Expectation]:
    """Ranges that no honest window can leave."""
    low, high = _range(feature)
    found = [at_least(feature.name, low)]
    if high is not None:
        found.append(at_most(feature.name, high))
    if _never_null(feature):
        found.append(
            none_of(
                f"{feature.name}_missing",
                f"{feature.name}_there",
                f"{feature.name} is there in every row.",
                "nulls",
                f"{{{feature.name}_missing}} rows without",
            )
        )
    return found


def _range(feature: Feature) -> tuple[float, float | None]:
    """Least and greatest value; a count is an integer and has no greatest."""
    now = feature.window is not None and feature.window.delay_days == 0
    return {
        Kind.AMOUNT: (-LARGEST, LARGEST),
        # A window with no delay holds the transaction itself.
        Kind.COUNT: (1 if now and feature.where is None else 0, None),
        Kind.RATE: (0, 1),
        Kind.PROBABILITY: (0, 1),
        Kind.RATIO: (-LARGEST, LARGEST),
        Kind.DURATION_S: (0, LARGEST),
        Kind.HOUR_OF_DAY: (0, 24),
        Kind.DAY_OF_WEEK: (0, 6),
    }[feature.kind]


def _never_null(feature: Feature) -> bool:
    if feature.parts:
        # A ratio is null where there is nothing to divide by; a smoothed rate has its prior.
        return feature.function is Function.SMOOTHED
    if feature.window is None or feature.empty is not None or feature.kind is Kind.COUNT:
        return True
    if feature.function in (Function.SECONDS_SINCE_LAST, Function.STD):
        # The first event of a window, or the only one.
        return False
    # A window with no delay holds the transaction itself, which a condition may leave out.
    counts_itself = feature.where is None or feature.function is Function.SHARE
    return feature.window.delay_days == 0 and counts_itself


SUITE = StagedSuite(
    GATES["features"],
    FEATURES_TABLE,
    row_is="a row of features",
    profile=Profile(
        ranged=tuple(FEATURES),
        required=tuple(name for name, feature in FEATURES.items() if _never_null(feature)),
    ),
    own=_expectations,
)
