"""Gate 2: features may be scored if each accepted transaction has one row of valid values."""

from __future__ import annotations

from feature_defs.catalogue import FEATURES
from feature_defs.feature import Feature, Function, Kind
from jobs.lake.tables import FEATURES_TABLE
from jobs.quality.expectations import at_least, at_most, must_be_zero
from jobs.quality.gate import Expectation
from jobs.quality.overrides import GATES
from jobs.quality.row_counts import Profile
from jobs.quality.staged_rows import StagedSuite

# Far above any real sum of amounts; only infinity and NaN (counted as infinity) exceed it.
LARGEST = 1e15


def _expectations() -> list[Expectation]:
    return [item for feature in FEATURES.values() for item in _expectations_of(feature)]


def _expectations_of(feature: Feature) -> list[Expectation]:
    """Return the range of a feature's valid values, and whether it may be null."""
    low, high = _range(feature)
    expectations = [at_least(feature.name, low)]
    if high is not None:
        expectations.append(at_most(feature.name, high))
    if _never_null(feature):
        expectations.append(
            must_be_zero(
                f"{feature.name}_missing",
                f"{feature.name}_there",
                f"{feature.name} is never null.",
                "nulls",
                f"{{{feature.name}_missing}} rows without {feature.name}",
            )
        )
    return expectations


def _range(feature: Feature) -> tuple[float, float | None]:
    """Return the least and the greatest valid value; a count has no greatest value."""
    includes_itself = feature.window is not None and feature.window.delay_days == 0
    return {
        Kind.AMOUNT: (-LARGEST, LARGEST),
        # A window without delay contains the transaction itself.
        Kind.COUNT: (1 if includes_itself and feature.where is None else 0, None),
        Kind.RATE: (0, 1),
        Kind.PROBABILITY: (0, 1),
        Kind.RATIO: (-LARGEST, LARGEST),
        Kind.DURATION_S: (0, LARGEST),
        Kind.HOUR_OF_DAY: (0, 24),
        Kind.DAY_OF_WEEK: (0, 6),
    }[feature.kind]


def _never_null(feature: Feature) -> bool:
    """Return whether every transaction has a value of this feature."""
    if feature.parts:
        # A ratio is null if its denominator is zero or null; a smoothed rate uses its prior then.
        return feature.function is Function.SMOOTHED
    if feature.window is None or feature.empty is not None or feature.kind is Kind.COUNT:
        return True
    if feature.function in (Function.SECONDS_SINCE_LAST, Function.STD):
        # Null for the first event of a window, or for its only event.
        return False
    # A window without delay contains the transaction itself, unless a condition excludes it.
    counts_itself = feature.where is None or feature.function is Function.SHARE
    return feature.window.delay_days == 0 and counts_itself


SUITE = StagedSuite(
    GATES["features"],
    FEATURES_TABLE,
    row_name="a row of features",
    profile=Profile(
        range_columns=tuple(FEATURES),
        required_columns=tuple(name for name, feature in FEATURES.items() if _never_null(feature)),
    ),
    further_expectations=_expectations,
)
