"""The catalogue: all features by unique name, their fingerprints and their lookback.

A new view is added to `VIEWS`, a derived feature to `DERIVED`.

>>> feature("card_count_7d").window.length_days
7
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from feature_defs.attributes import Attribute
from feature_defs.card import (
    AMOUNT_AGAINST_USUAL,
    CARD_RHYTHM,
    CARD_SPEND,
    CARD_USUAL_SPEND,
    WEEK_AGAINST_USUAL,
)
from feature_defs.card_habits import (
    CARD_NEW_CATEGORY,
    CARD_NEW_COUNTRY,
    CARD_USUAL_AMOUNT,
    CARD_USUAL_HOUR,
    CARD_USUAL_WAY,
)
from feature_defs.card_velocity import CARD_VELOCITY, HOUR_AGAINST_MONTH, MERCHANT_CARDS
from feature_defs.derived import Ratio, SmoothedRate
from feature_defs.errors import DefinitionError, UsageError
from feature_defs.feature import Feature
from feature_defs.language import FeatureView
from feature_defs.merchant import (
    MERCHANT_EARLIER_FRAUD_RATE,
    MERCHANT_LABELS,
    MERCHANT_RISK,
    MERCHANT_RISK_INCREASES,
    MERCHANT_SMOOTHED_FRAUD_RATES,
)
from feature_defs.places import CARD_TRAVEL
from feature_defs.sequences import CARD_EVENTS
from feature_defs.transaction import EVENT_FEATURES, attribute_feature

VIEWS: tuple[FeatureView, ...] = (
    CARD_SPEND,
    CARD_USUAL_SPEND,
    CARD_RHYTHM,
    MERCHANT_RISK,
    MERCHANT_LABELS,
    CARD_VELOCITY,
    MERCHANT_CARDS,
    CARD_USUAL_AMOUNT,
    CARD_USUAL_HOUR,
    CARD_USUAL_WAY,
    CARD_NEW_CATEGORY,
    CARD_NEW_COUNTRY,
    CARD_TRAVEL,
)
# Each is derived from features of the views, or from derived features earlier in this list.
DERIVED: tuple[Ratio | SmoothedRate, ...] = (
    AMOUNT_AGAINST_USUAL,
    WEEK_AGAINST_USUAL,
    *MERCHANT_SMOOTHED_FRAUD_RATES,
    MERCHANT_EARLIER_FRAUD_RATE,
    *MERCHANT_RISK_INCREASES,
    HOUR_AGAINST_MONTH,
)


def collect(
    views: tuple[FeatureView, ...],
    derived: tuple[Ratio | SmoothedRate, ...] = (),
    attributes: tuple[Attribute, ...] = (),
) -> dict[str, Feature]:
    """Return all features by name: transaction features, features of the views, derived features.

    `attributes` are a bank's own; each becomes a feature of the transaction.

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

    of_transaction = (*EVENT_FEATURES, *map(attribute_feature, attributes))
    for feature in (*of_transaction, *(feature for view in views for feature in view.features)):
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


def lookback_days(features: Mapping[str, Feature]) -> int:
    """Return how many days of input before a transaction these features need."""
    return max((feature.lookback_days for feature in features.values()), default=0)


# Lookback of the whole catalogue: days of input before a transaction.
LOOKBACK_DAYS = lookback_days(FEATURES)


def missing_attributes(feature: Feature, columns: Mapping[str, str]) -> list[str]:
    """Return the attributes that a feature reads and a table does not have, with the reason.

    `columns` are the columns of the lake's `transactions`, with their Spark SQL types.
    """
    return [
        f"{column.name} ({columns[column.name]}, not {column.type})"
        if column.name in columns
        else column.name
        for column in feature.needed_attributes
        if columns.get(column.name) != column.type
    ]


def available(
    features: Mapping[str, Feature], columns: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Feature]:
    """Return the features whose attributes are all among these columns of `transactions`.

    Without columns: the features that every lake has.

    >>> "card_count_7d" in available(FEATURES)
    True
    >>> "transaction_channel" in available(FEATURES)
    False
    >>> "transaction_channel" in available(FEATURES, {"channel": "string"})
    True
    """
    return {
        name: feature
        for name, feature in features.items()
        if not missing_attributes(feature, columns)
    }


def require_available(names: Iterable[str], columns: Mapping[str, str]) -> None:
    """Check that features can be built from the columns of `transactions`.

    Names that are not in the catalogue are ignored: a model in service may read retired columns.

    Raises:
        UsageError: attributes are missing; the message names them for each feature. Map them in
            `[transactions.attributes]`, or do not name these features.
    """
    missing = {
        name: lacking
        for name in names
        if name in FEATURES and (lacking := missing_attributes(FEATURES[name], columns))
    }
    if missing:
        texts = [f"{name} needs {', '.join(lacking)}" for name, lacking in missing.items()]
        raise UsageError(
            f"Features are not available, because `transactions` has no such attributes: "
            f"{'; '.join(texts)}.",
            expected="features whose attributes the lake has (`features --describe` lists them).",
            remedy="map these attributes in `[transactions.attributes]` and ingest the nights "
            "again, or remove the features from the recipe's columns.",
        )


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


def fingerprints(features: Mapping[str, Feature] = FEATURES) -> dict[str, str]:
    """Return the fingerprint of each feature, by name."""
    return {name: feature.fingerprint for name, feature in features.items()}


def fingerprint() -> str:
    """Return the fingerprint of the whole catalogue."""
    text = ",".join(f"{name}={value}" for name, value in sorted(fingerprints().items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
