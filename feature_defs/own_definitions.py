"""A bank's own definitions beside those of this package, without a fork.

The setting `definitions` names a module with `VIEWS`, `DERIVED` or `ATTRIBUTES`. Its features
become part of the catalogue of this process: of `features`, of models, of the report. Executors get
definitions as data, so they do not need the module.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from feature_defs.attributes import Attribute
from feature_defs.catalogue import DERIVED, FEATURES, VIEWS, collect
from feature_defs.derived import Ratio, SmoothedRate
from feature_defs.errors import DefinitionError, UsageError
from feature_defs.language import FeatureView
from feature_defs.own_modules import import_own

SETTING = "definitions"
T = TypeVar("T")


def use_definitions(location: str | None) -> None:
    """Set the catalogue of this process: our features, and those of a module of the bank.

    Args:
        location: name of an importable module or path of a .py file, with `VIEWS` (a tuple of
            `FeatureView`), `DERIVED` (a tuple of `Ratio` or `SmoothedRate`) or `ATTRIBUTES` (a
            tuple of `Attribute`, each of which becomes a feature of the transaction); None for our
            features alone.

    Raises:
        UsageError: the module cannot be imported, defines nothing or something else, or a name
            is taken; the message says what to correct.
    """
    views, derived = VIEWS, DERIVED
    attributes: tuple[Attribute, ...] = ()
    if location is not None:
        module = import_own(location, SETTING)
        own_views = _items(location, getattr(module, "VIEWS", ()), (FeatureView,))
        own_derived: tuple[Ratio | SmoothedRate, ...] = _items(
            location, getattr(module, "DERIVED", ()), (Ratio, SmoothedRate)
        )
        attributes = _items(location, getattr(module, "ATTRIBUTES", ()), (Attribute,))
        if not (own_views or own_derived or attributes):
            raise UsageError(
                f"{location} has no VIEWS, no DERIVED and no ATTRIBUTES.",
                expected="VIEWS = (FeatureView(…),), DERIVED = (Ratio(…),) or ATTRIBUTES = "
                "(Attribute(…),).",
                remedy=f"add one of them, or correct the setting `{SETTING}`.",
            )
        views, derived = (*VIEWS, *own_views), (*DERIVED, *own_derived)
    try:
        features = collect(views, derived, attributes)
    except DefinitionError as error:
        raise UsageError(
            f"The {SETTING} in {location} do not fit the catalogue: {error}.",
            expected="features whose names are free and whose parts exist.",
            remedy="rename or correct them.",
        ) from None
    # Other modules hold this dictionary itself.
    FEATURES.clear()
    FEATURES.update(features)


def _items(location: str, items: object, kinds: tuple[type[T], ...]) -> tuple[T, ...]:
    """Return the items as a tuple; `kinds` are what they may be."""
    found = tuple(items) if isinstance(items, Iterable) else ()
    if not isinstance(items, Iterable) or not all(isinstance(item, kinds) for item in found):
        raise UsageError(
            f"{location} has VIEWS, DERIVED or ATTRIBUTES that are not definitions.",
            expected="VIEWS: a tuple of FeatureView; DERIVED: a tuple of Ratio or SmoothedRate; "
            "ATTRIBUTES: a tuple of Attribute.",
            remedy="a tuple of one needs a comma at its end: VIEWS = (MY_VIEW,)",
        )
    return found
