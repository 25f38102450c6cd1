"""The catalogue: all features by unique name, their fingerprints and their lookback.

A new view is added to `VIEWS`, a derived feature to `DERIVED`.

>>> feature("card_count_7d").window.length_days
7
"""

from __future__ import annotations

import hashlib

from feature_defs.card import (
    AMOUNT_AGAINST_USUAL,
    CARD_RHYTHM,
    CARD_SPEND,
    CARD_USUAL_SPEND,
    WEEK_AGAINST_USUAL,
)
from feature_defs.derived import Ratio, SmoothedRate
from feature_defs.errors import DefinitionError
from feature_defs.feature import Feature
from feature_defs.language import FeatureView
from feature_defs.merchant import (
    MERCHANT_EARLIER_FRAUD_RATE,
    MERCHANT_LABELS,
    MERCHANT_RISK,
    MERCHANT_RISK_INCREASES,
    MERCHANT_SMOOTHED_FRAUD_RATES,
)
from feature_defs.sequences import CARD_EVENTS
from feature_defs.transaction import EVENT_FEATURES

VIEWS: tuple[FeatureView, ...] = (
    CARD_SPEND,
    CARD_USUAL_SPEND,
    CARD_RHYTHM,
    MERCHANT_RISK,
    MERCHANT_LABELS,
)
# Each is derived from features of the views, or from derived features earlier in this list.
DERIVED: tuple[Ratio | SmoothedRate, ...] = (
    AMOUNT_AGAINST_USUAL,
    WEEK_AGAINST_USUAL,
    *MERCHANT_SMOOTHED_FRAUD_RATES,
    MERCHANT_EARLIER_FRAUD_RATE,
    *MERCHANT_RISK_INCREASES,
)


def collect(
    views: tuple[FeatureView, ...], derived: tuple[Ratio | SmoothedRate, ...] = ()
) -> dict[str, Feature]:
    """Return all features by name: transaction features, features of the views, derived features.

    Raises:
        DefinitionError: two features have the same name, or a derived feature needs one that does
            not exist.
    """
    by_name: dict[str, Feature] = {}

    def add(feature: Feature) -> None:
        if feature.name in by_name:
            both = f"“{by_name[feature.name].description}” and “{feature.description}”"
            raise DefinitionError(
                f"two features have the name {feature.name}: {both}; rename or remove one"
            )
        by_name[feature.name] = feature

    for feature in (*EVENT_FEATURES, *(feature for view in views for feature in view.features)):
        add(feature)
    for definition in derived:
        add(definition.feature(by_name))
    return by_name


def check_columns(columns: tuple[str, ...], features: dict[str, Feature]) -> None:
    """Check that every column that models read is a feature.

    Raises:
        DefinitionError: columns are missing; the message lists them.
    """
    missing = [name for name in columns if name not in features]
    if missing:
        raise DefinitionError(
            f"CARD_EVENTS reads {', '.join(missing)}, but the catalogue has no such feature; "
            f"its features are: {', '.join(features)}"
        )


FEATURES: dict[str, Feature] = collect(VIEWS, DERIVED)
check_columns(CARD_EVENTS.columns, FEATURES)

# Lookback of the whole catalogue: days of input before a transaction.
LOOKBACK_DAYS = max(feature.lookback_days for feature in FEATURES.values())


def feature(name: str) -> Feature:
    """Return a feature by name.

    Raises:
        KeyError: the catalogue has no such feature; the message lists all features.
    """
    if name not in FEATURES:
        raise KeyError(
            f"the catalogue has no feature {name!r}; it has: {', '.join(sorted(FEATURES))}"
        )
    return FEATURES[name]


def fingerprints() -> dict[str, str]:
    """Return the fingerprint of each feature, by name."""
    return {name: feature.fingerprint for name, feature in FEATURES.items()}


def fingerprint() -> str:
    """Return the fingerprint of the whole catalogue."""
    text = ",".join(f"{name}={value}" for name, value in sorted(fingerprints().items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
