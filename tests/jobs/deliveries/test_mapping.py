"""Mappings: shipped mappings load, and all errors of an invalid file are listed."""

from pathlib import Path

import pytest

from feature_defs.errors import UsageError
from feature_defs.labels import LabelPolicy
from jobs.deliveries.mapping import Mapping, load_mapping, shipped_mappings

GOOD = """
name = "bank"
currency = "CHF"
refunds = "negative"
zone = "Europe/Zurich"
pseudonymise = ["card_id"]
[transactions]
path = "tx"
business_date = "day"
[transactions.columns]
transaction_id = "id"
event_time = "time"
card_id = "card"
merchant_id = "shop"
amount = "chf"
[transactions.attributes]
channel = "categorical"
[labels]
completeness = "frauds_only"
maturity_days = 30
label_delay_days = 7
[labels.columns]
is_fraud = "fraud"
"""


def write(file: Path, text: str) -> str:
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_shipped_mappings_have_the_name_of_their_file() -> None:
    assert {"handbook", "simulated"} <= set(shipped_mappings())
    for name in shipped_mappings():
        assert load_mapping(name).name == name


def test_mapping_file_loads_and_round_trips_as_json(tmp_path: Path) -> None:
    mapping = load_mapping(write(tmp_path / "bank.toml", GOOD))
    assert mapping.pseudonymise == ("card_id",)
    assert mapping.label_policy == LabelPolicy(maturity_days=30)
    assert Mapping.model_validate_json(mapping.model_dump_json()) == mapping


def test_policy_of_complete_labels_has_no_maturity() -> None:
    assert load_mapping("handbook").label_policy == LabelPolicy()


@pytest.mark.parametrize("name", ["unknown", "../mappings/handbook", "handbook.toml", ""])
def test_unknown_mapping_name_lists_the_shipped_mappings(name: str) -> None:
    with pytest.raises(UsageError, match="handbook, simulated"):
        load_mapping(name)


def test_invalid_mapping_lists_all_errors(tmp_path: Path) -> None:
    text = (
        GOOD.replace('"CHF"', '"francs"')
        .replace("Europe/Zurich", "Mars/Olympus")
        .replace('path = "tx"', 'path = "../tx"')
        .replace('channel = "categorical"', 'amount = "numeric"')
        .replace("maturity_days = 30", "maturitydays = 30")
    )
    with pytest.raises(UsageError) as raised:
        load_mapping(write(tmp_path / "bank.toml", text))
    for part in ("currency", "Mars/Olympus", "below the source", "attributes", "maturitydays"):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("maturity_days = 30\n", "", "frauds_only needs maturity_days"),
        ("label_delay_days = 7\n", "", "either columns.label_time or label_delay_days"),
        ('[labels]\n', '[labels]\npath = "labels"\n', "needs columns.transaction_id"),
        ('refunds = "negative"', 'refunds = "maybe"', "refunds"),
        ('name = "bank"', 'name = "../bank"', "name"),
        ('channel = ', '"a;b" = ', "cannot have"),
        ("[transactions]", '[format]\ndelimiter = ";;"\n[transactions]', "delimiter"),
        ("[transactions]", '[format]\ndelimiter = "e"\n[transactions]', "cannot separate"),
        ("[transactions]", '[format]\nthousands = "."\n[transactions]', "are both"),
        ("[transactions]", '[format]\nencoding = "rot13"\n[transactions]', "not an encoding"),
        ("[transactions]", '[format]\ntimes = "YYYY-mm-DD"\n[transactions]', "no year (yyyy)"),
        ("[transactions]", '[format]\ntimes = "dd.mm.yyyy"\n[transactions]', "no month (MM)"),
        ("[transactions]", '[format]\ntimes = "dd.MM.yyyy hh:mm"\n[transactions]', "use HH"),
        ("[transactions]", "[currencies]\nUSD = 0.9\n[transactions]", "columns.currency"),
        ("[transactions]", "[currencies]\nUSD = -0.9\n[transactions]", "greater than 0"),
        ("[transactions]", "[currencies]\ndollar = 0.9\n[transactions]", "currencies.dollar"),
        ('amount = "chf"', 'amount = "chf"\ncurrency = "c"\n[currencies]\nCHF = 1', "no rate"),
        ('channel = "cat', 'has_time_of_day = "cat', "already a column"),
        ('is_fraud = "fraud"', 'is_fraud = "fraud"\n[labels.values]\nfraud = []', "values.fraud"),
        (
            'is_fraud = "fraud"',
            'is_fraud = "fraud"\n[labels.values]\nfraud = ["Y"]\ngenuine = ["N", "Y "]',
            "Y cannot be both",
        ),
        ("[labels]", '[readiness]\nmarker = "done"\n[labels]', "{business_date}"),
    ],
)  # fmt: skip
def test_inconsistent_mapping_is_rejected(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError) as raised:
        load_mapping(write(tmp_path / "bank.toml", GOOD.replace(old, new)))
    assert message in str(raised.value)


def test_file_with_invalid_toml_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not valid"):
        load_mapping(write(tmp_path / "bank.toml", "name = "))
