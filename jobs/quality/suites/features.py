"""Gate 2: features may be scored if each accepted transaction has one row of valid values."""

from __future__ import annotations

from collections.abc import Mapping

from feature_defs.catalogue import FEATURES, available
from feature_defs.feature import PLACE_FUNCTIONS, Feature, Function, Kind
from jobs.lake.tables import features_table
from jobs.quality.expectations import at_least, at_most, must_be_zero
from jobs.quality.gate import Expectation
from jobs.quality.overrides import GATES
from jobs.quality.row_counts import Profile
from jobs.quality.staged_rows import StagedSuite

# Far above any real sum of amounts; only infinity and NaN (counted as infinity) exceed it.
LARGEST = 1e15
# Null for the first event of a window.
COMPARES_WITH_EARLIER = PLACE_FUNCTIONS | {
    Function.SAME_SHARE,
    Function.DEVIATION,
    Function.QUANTILE_RANK,
    Function.HOUR_SHARE,
}


def suite_of(features: Mapping[str, Feature], *, hours_known: bool = True) -> StagedSuite:
    """Return the checks of these features.

    With `hours_known` false, some transactions have no time of day; the hour may then be null.
    """
    required = {
        name
        for name, feature in features.items()
        if _never_null(feature) and (hours_known or feature.kind is not Kind.HOUR_OF_DAY)
    }

    def expectations() -> list[Expectation]:
        return [
            item
            for name, feature in features.items()
            for item in _expectations_of(feature, required=name in required)
        ]

    return StagedSuite(
        GATES["features"],
        features_table(features),
        row_name="a row of features",
        profile=Profile(
            range_columns=tuple(n for n, f in features.items() if f.kind is not Kind.CATEGORY),
            required_columns=tuple(name for name in features if name in required),
        ),
        further_expectations=expectations,
    )


def _expectations_of(feature: Feature, *, required: bool) -> list[Expectation]:
    """Return the range of a feature's valid values, and whether it may be null."""
    low, high = _range(feature)
    expectations = []
    # A text has no range.
    if feature.kind is not Kind.CATEGORY:
        expectations.append(at_least(feature.name, low))
        if high is not None:
            expectations.append(at_most(feature.name, high))
    if required:
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
    includes_itself = feature.window is not None and feature.window.delay_s == 0
    # Events without a value of the attribute are not counted.
    counts_itself = includes_itself and feature.where is None and not feature.is_nullable_measure
    return {
        Kind.AMOUNT: (-LARGEST, LARGEST),
        # A window without delay contains the transaction itself.
        Kind.COUNT: (1 if counts_itself else 0, None),
        Kind.RATE: (0, 1),
        Kind.PROBABILITY: (0, 1),
        Kind.RATIO: (-LARGEST, LARGEST),
        Kind.DURATION_S: (0, LARGEST),
        Kind.HOUR_OF_DAY: (0, 24),
        Kind.DAY_OF_WEEK: (0, 6),
        Kind.NUMBER: (-LARGEST, LARGEST),
        Kind.DISTANCE_KM: (0, LARGEST),
        Kind.SPEED_KMH: (0, LARGEST),
        Kind.AGE_YEARS: (-LARGEST, LARGEST),
        Kind.CATEGORY: (-LARGEST, LARGEST),
    }[feature.kind]


def _never_null(feature: Feature) -> bool:
    """Return whether every transaction has a value of this feature."""
    if feature.parts:
        # A ratio is null if its denominator is zero or null; a smoothed rate uses its prior then.
        return feature.function is Function.SMOOTHED and not feature.needed_attributes
    if feature.has_nullable_key or feature.function in COMPARES_WITH_EARLIER:
        return False
    if feature.window is None:
        # A transaction may lack an attribute.
        return not feature.attributes
    if feature.empty is not None or feature.kind is Kind.COUNT:
        return True
    if feature.function in (Function.SECONDS_SINCE_LAST, Function.STD):
        # Null for the first event of a window, or for its only event.
        return False
    if feature.is_nullable_measure:
        return False
    # A window without delay contains the transaction itself, unless a condition excludes it.
    counts_itself = feature.where is None or feature.function is Function.SHARE
    return feature.window.delay_s == 0 and counts_itself


# The checks of the features that every lake has.
SUITE = suite_of(available(FEATURES))
