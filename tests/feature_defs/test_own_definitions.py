"""A bank's own definitions: they join the catalogue of the process, and errors say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_defs.catalogue import FEATURES, available, fingerprints
from feature_defs.errors import UsageError
from feature_defs.own_definitions import use_definitions

IMPORTS = """
from feature_defs.attributes import Attribute
from feature_defs.derived import Ratio
from feature_defs.feature import CARD, Kind
from feature_defs.language import FeatureView, count, days, same_share
from feature_defs.sources import TRANSACTIONS
"""
TIER = 'Attribute("loyalty_tier", Kind.CATEGORY, "Tier of the loyalty programme.")'
VIEW = (
    'FeatureView(CARD, TRANSACTIONS, (same_share("loyalty_tier", days(14)),), "Usual tier.", '
    f"({TIER},))"
)


@pytest.fixture(autouse=True)
def catalogue_of_this_package() -> Iterator[dict[str, str]]:
    """Return the fingerprints without own definitions; restore the catalogue at the end."""
    before = fingerprints()
    yield before
    use_definitions(None)
    assert fingerprints() == before


def module(folder: Path, text: str) -> str:
    path = folder / "bank.py"
    path.write_text(IMPORTS + text, encoding="utf-8")
    return str(path)


def test_own_features_join_the_catalogue_and_change_no_fingerprint(
    tmp_path: Path, catalogue_of_this_package: dict[str, str]
) -> None:
    ratio = 'Ratio("card_count_1d", "card_count_7d", "Share of the week that was today.")'
    use_definitions(module(tmp_path, f"VIEWS = ({VIEW},)\nDERIVED = ({ratio},)\n"))
    added = set(FEATURES) - set(catalogue_of_this_package)
    assert added == {"card_loyalty_tier_same_share_14d", "card_count_1d_over_card_count_7d"}
    assert {name: fingerprints()[name] for name in catalogue_of_this_package} == (
        catalogue_of_this_package
    )
    # The attribute is the bank's own, so the feature is available where a lake has it.
    assert "card_loyalty_tier_same_share_14d" not in available(FEATURES)
    assert "card_loyalty_tier_same_share_14d" in available(FEATURES, {"loyalty_tier": "string"})


def test_an_own_attribute_is_a_feature_of_the_transaction(tmp_path: Path) -> None:
    use_definitions(module(tmp_path, f"ATTRIBUTES = ({TIER},)\n"))
    feature = FEATURES["transaction_loyalty_tier"]
    assert (feature.type, feature.measure) == ("string", "loyalty_tier")
    assert feature.name in available(FEATURES, {"loyalty_tier": "string"})


def test_the_same_definitions_can_be_used_again(tmp_path: Path) -> None:
    location = module(tmp_path, f"VIEWS = ({VIEW},)\n")
    use_definitions(location)
    once = fingerprints()
    use_definitions(location)
    assert fingerprints() == once


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no VIEWS, no DERIVED and no ATTRIBUTES"),
        (f"VIEWS = {VIEW}\n", "that are not definitions"),
        ("VIEWS = ('card_count_7d',)\n", "that are not definitions"),
        (
            'VIEWS = (FeatureView(CARD, TRANSACTIONS, (count(days(7)),), "Again."),)\n',
            "two features have the name card_count_7d",
        ),
        ('DERIVED = (Ratio("card_count_1d", "nothing", "?"),)\n', "there is no feature nothing"),
        ("VIEWS = (undefined,)\n", "cannot be imported: NameError"),
        ("VIEWS = (\n", "cannot be imported: SyntaxError"),
    ],
)
def test_wrong_definitions_are_refused_and_leave_the_catalogue(
    tmp_path: Path, text: str, message: str
) -> None:
    before = fingerprints()
    with pytest.raises(UsageError) as raised:
        use_definitions(module(tmp_path, text))
    assert message in str(raised.value)
    assert fingerprints() == before


def test_a_module_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match=r"FRAUD_DEFINITIONS"):
        use_definitions("no_such_module_of_a_bank")
