"""All features there are, by unique name.

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
from feature_defs.definitions import FeatureView
from feature_defs.derived import Ratio, SmoothedRate
from feature_defs.errors import DefinitionError
from feature_defs.feature import Feature
from feature_defs.merchant import (
    MERCHANT_CHANCE_BEFORE,
    MERCHANT_FRAUD_CHANCES,
    MERCHANT_JUDGED,
    MERCHANT_NEWLY_RISKY,
    MERCHANT_RISK,
)
from feature_defs.sequences import CARD_EVENTS, EVENT_FEATURES

VIEWS: tuple[FeatureView, ...] = (
    CARD_SPEND,
    CARD_USUAL_SPEND,
    CARD_RHYTHM,
    MERCHANT_RISK,
    MERCHANT_JUDGED,
)
# Made from features of the views, or from those before.
DERIVED: tuple[Ratio | SmoothedRate, ...] = (
    AMOUNT_AGAINST_USUAL,
    WEEK_AGAINST_USUAL,
    *MERCHANT_FRAUD_CHANCES,
    MERCHANT_CHANCE_BEFORE,
    *MERCHANT_NEWLY_RISKY,
)


def collect(
    views: tuple[FeatureView, ...], derived: tuple[Ratio | SmoothedRate, ...] = ()
) -> dict[str, Feature]:
    """All features by name: what transactions say, the views', those made from features.

    Raises:
        DefinitionError: two are called the same, or one is made from a feature that is not there.
    """
    by_name: dict[str, Feature] = {}

    def add(feature: Feature) -> None:
        if feature.name in by_name:
            both = f"“{by_name[feature.name].description}” and “{feature.description}”"
            raise DefinitionError(
                f"two features are called {feature.name}, {both}; rename or remove one"
            )
        by_name[feature.name] = feature

    for feature in (*EVENT_FEATURES, *(feature for view in views for feature in view.features)):
        add(feature)
    for definition in derived:
        add(definition.feature(by_name))
    return by_name


def check_columns(columns: tuple[str, ...], features: dict[str, Feature]) -> None:
    """Check that what models read is there.

    Raises:
        DefinitionError: names all that is not.
    """
    missing = [name for name in columns if name not in features]
    if missing:
        raise DefinitionError(
            f"CARD_EVENTS reads {', '.join(missing)}, which no view and no derived feature is; "
            f"there are: {', '.join(features)}"
        )


FEATURES: dict[str, Feature] = collect(VIEWS, DERIVED)
check_columns(CARD_EVENTS.columns, FEATURES)

# Days of input before a transaction that the whole catalogue needs.
LOOKBACK_DAYS = max(feature.lookback_days for feature in FEATURES.values())


def feature(name: str) -> Feature:
    """Look a feature up.

    Raises:
        KeyError: no such feature; the message lists all there are.
    """
    if name not in FEATURES:
        raise KeyError(f"no feature is called {name!r}; there are: {', '.join(sorted(FEATURES))}")
    return FEATURES[name]


def fingerprints() -> dict[str, str]:
    """Fingerprint per feature name."""
    return {name: feature.fingerprint for name, feature in FEATURES.items()}


def fingerprint() -> str:
    """Fingerprint of the whole catalogue."""
    text = ",".join(f"{name}={value}" for name, value in sorted(fingerprints().items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
