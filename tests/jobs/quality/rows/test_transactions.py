"""Row rules: each rule fails and passes on real files, without a lake."""

import csv
import json
import os
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.deliveries.mapping import Mapping
from jobs.deliveries.reading import read_source
from jobs.deliveries.source import Delivery, labels_of, transactions_of
from jobs.lake.dates import Dates
from jobs.lake.tables import LABELS, TRANSACTIONS
from jobs.quality.rows.labels import validated_labels
from jobs.quality.rows.rules import Reason, sentence
from jobs.quality.rows.transactions import (
    pseudonymise_ids,
    rows_for_dates,
    validated_transactions,
)

pytestmark = pytest.mark.spark

DAY = date(2024, 3, 31)
CARD_NUMBER = "4111111111111111"
COLUMNS = ["id", "at", "card", "shop", "amount", "day", "risk", "extra"]
GOOD = {
    "id": "t", "at": "2024-03-31 10:00:00", "card": "c", "shop": "m", "amount": "12.345",
    "day": "2024-03-31", "risk": "0.5", "extra": "x",
}  # fmt: skip


def mapping(**changes: Any) -> Mapping:
    content: dict[str, Any] = {
        "name": "bank",
        "currency": "EUR",
        "refunds": "refused",
        "zone": "Europe/Paris",
        "line_breaks": "allowed",
        "transactions": {
            "business_date": "day",
            "columns": {
                "transaction_id": "id",
                "event_time": "at",
                "card_id": "card",
                "merchant_id": "shop",
                "amount": "amount",
            },
            "attributes": {"risk": "numeric"},
        },
    }
    return Mapping.model_validate({**content, **changes})


def write_csv(folder: Path, rows: list[dict[str, str]], columns: list[str] = COLUMNS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "part.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def validate(
    spark: SparkSession,
    folder: Path,
    using: Mapping,
    format_: Any = "csv",
    accepted: DataFrame | None = None,
    dates: Dates | None = None,
) -> dict[str | None, Any]:
    """Return the validated rows of a delivery by transaction id."""
    delivery = Delivery(str(folder), format_, using)
    dates = dates or Dates(DAY, DAY)
    table = transactions_of(delivery)
    rows = rows_for_dates(read_source(spark, delivery, table, dates), table, using, dates)
    secret = [getattr(using.transactions.columns, name) for name in using.pseudonymise]
    rows = pseudonymise_ids(rows, secret, SecretStr("0123456789abcdef"))
    if accepted is None:
        accepted = spark.createDataFrame([], TRANSACTIONS.ddl)
    frame = validated_transactions(rows, accepted, using, 7)
    validated = frame.withColumn("micros", F.unix_micros("event_time")).collect()
    assert len({row["transaction_id"] for row in validated}) == len(validated)
    return {row["transaction_id"]: row for row in validated}


def micros(text: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


# By reason code: a change to a good row that fails this rule only.
FAILING = {
    "missing_card_id": {"card": " "},
    "missing_merchant_id": {"shop": ""},
    "oversized_id": {"shop": "m" * 257},
    "card_number_in_id": {"card": "4111 1111-1111 1111"},
    "missing_event_time": {"at": ""},
    "unparsable_event_time": {"at": "31/03/2024 10:00"},
    "nonexistent_local_time": {"at": "2024-03-31 02:30:00"},
    "event_after_delivery": {"at": "2024-04-01T00:00:01Z"},
    "too_late": {"at": "2024-03-23T23:59:59Z"},
    "missing_amount": {"amount": ""},
    "unparsable_amount": {"amount": "12,50"},
    "amount_not_finite": {"amount": "-Infinity"},
    "amount_out_of_range": {"amount": "10000000000.001"},
    "negative_amount": {"amount": "-0.01"},
    "unreadable_business_date": {"day": "soon"},
    "unparsable_attribute": {"risk": "high"},
}
# By name: a change to a good row, and its reason codes.
FURTHER_FAILING = {
    "time only": ({"at": "10:00:00"}, ["unparsable_event_time"]),
    "impossible date": ({"at": "2024-02-31 10:00:00"}, ["unparsable_event_time"]),
    "huge exponent": ({"amount": "1e999999999"}, ["amount_out_of_range"]),
    "tiny exponent": ({"amount": "1e-999999999"}, ["amount_out_of_range"]),
    "java suffix": ({"amount": "12d"}, ["unparsable_amount"]),
    "nan": ({"amount": "NaN"}, ["amount_not_finite"]),
    "two": ({"amount": "x", "card": ""}, ["missing_card_id", "unparsable_amount"]),
}
# By transaction id: a change to a good row that passes all rules.
PASSING = {
    "plain": {},
    "<script>alert('1')</script>": {},
    "'; DROP TABLE x; --": {"card": '"quoted", and\nbroken', "shop": "\u202eright to left \u0007"},
    "no luhn": {"card": "4111111111111112"},
    "longest id": {"shop": "m" * 256},
    "oldest": {"at": "2024-03-24T00:00:00Z"},
    "newest": {"at": "2024-03-31T23:59:59.999999Z"},
    "ten billion": {"amount": "10000000000"},
    "zero": {"amount": "0"},
    "rounded up": {"amount": "0.0005"},
    "rounded down": {"amount": "0.0004999"},
    "exponent": {"amount": "1.5e3"},
    "no attribute": {"risk": ""},
    "zoned": {"at": "2024-03-31T01:00:00+05:30"},
    "winter": {"at": "2024-03-31 01:59:59"},
    "summer": {"at": "2024-03-31 03:00:00"},
}


@pytest.fixture(scope="module")
def validated(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rows = [{**GOOD, "id": name, **change} for name, change in FAILING.items()]
    rows += [{**GOOD, "id": name, **change} for name, (change, _) in FURTHER_FAILING.items()]
    rows += [{**GOOD, "id": name, **change} for name, change in PASSING.items()]
    folder = write_csv(tmp_path_factory.mktemp("rules"), rows)
    with (folder / "part.csv").open("a", encoding="utf-8") as file:
        file.write(f"short,2024-03-31 10:00:00,{CARD_NUMBER}\n")
        file.write("long,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,x,one,too,many\n")
        file.write(',2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,"no id"\n')
    return validate(spark, folder, mapping())


@pytest.mark.parametrize("reason", FAILING)
def test_rule_fails_with_its_reason_code(validated: dict[str, Any], reason: str) -> None:
    assert validated[reason]["reasons"] == [reason]
    assert not validated[reason]["accepted"]
    assert sentence(reason) == Reason[reason.upper()].value


@pytest.mark.parametrize("name", FURTHER_FAILING)
def test_invalid_values_fail_with_reason_codes(validated: dict[str, Any], name: str) -> None:
    assert validated[name]["reasons"] == FURTHER_FAILING[name][1]


@pytest.mark.parametrize("name", PASSING)
def test_valid_values_pass_all_rules(validated: dict[str, Any], name: str) -> None:
    assert validated[name]["reasons"] == []
    assert validated[name]["raw"] is None


def test_amounts_and_times_are_parsed_exactly(validated: dict[str, Any]) -> None:
    amounts = {name: str(validated[name]["amount"]) for name in PASSING}
    assert amounts["plain"] == "12.345"
    assert amounts["rounded up"] == "0.001"
    assert amounts["rounded down"] == "0.000"
    assert amounts["exponent"] == "1500.000"
    assert validated["'; DROP TABLE x; --"]["card_id"] == '"quoted", and\nbroken'
    times = {name: validated[name]["micros"] for name in PASSING}
    assert times["zoned"] == micros("2024-03-30T19:30:00+00:00")
    assert times["winter"] == micros("2024-03-31T00:59:59+00:00")
    assert times["summer"] == micros("2024-03-31T01:00:00+00:00")


def test_malformed_records_are_quarantined(validated: dict[str, Any]) -> None:
    assert "malformed_record" in validated["short"]["reasons"]
    assert "malformed_record" in validated["long"]["reasons"]
    assert "too,many" in validated["long"]["raw"]
    assert validated[None]["reasons"] == ["missing_transaction_id"]


def test_raw_has_all_source_columns_and_no_card_number(validated: dict[str, Any]) -> None:
    assert '"extra":"x"' in validated["unparsable_amount"]["raw"]
    assert '"amount":"12,50"' in validated["unparsable_amount"]["raw"]
    for row in validated.values():
        assert row["raw"] is None or CARD_NUMBER not in row["raw"].replace(" ", "").replace("-", "")
    assert "1111" in validated["card_number_in_id"]["raw"]


def test_raw_with_masked_values_is_valid_json(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql(
        f"""select 't' as id, timestamp'2024-03-31 10:00:00Z' as at, '{CARD_NUMBER}' as card,
        'm' as shop, 1.5D as amount, date'2024-03-31' as day, -1.4186833796292809e-16D as risk"""
    ).write.parquet(str(tmp_path / "rows"))
    raw = validate(spark, tmp_path / "rows", mapping(), "parquet")["t"]["raw"]
    assert json.loads(raw)["risk"].startswith("-1.")
    assert json.loads(raw)["card"] == "****1111"


def test_raw_masks_card_numbers_in_nested_and_float_columns(
    spark: SparkSession, tmp_path: Path
) -> None:
    spark.sql(
        f"""select 't' as id, timestamp'2024-03-31 10:00:00Z' as at, 'c' as card, 'm' as shop,
        -1.5D as amount, date'2024-03-31' as day, 0.5D as risk,
        named_struct('exp', '12/30', 'pan', '{CARD_NUMBER}') as nested,
        array('{CARD_NUMBER}') as pans, map('{CARD_NUMBER}', 1) as by_pan,
        {CARD_NUMBER}D as fraction, 2.5D as other, 1e300D as huge, double('NaN') as none"""
    ).write.parquet(str(tmp_path / "rows"))
    raw = json.loads(validate(spark, tmp_path / "rows", mapping(), "parquet")["t"]["raw"])
    assert json.loads(raw["nested"]) == {"exp": "12/30", "pan": "****1111"}
    assert raw["pans"] == '["****1111"]' and raw["by_pan"] == '{"****1111":1}'
    assert raw["fraction"] == "****1111" and raw["other"] == "2.5"
    assert (raw["huge"], raw["none"]) == ("1.0E300", "NaN")


def test_pseudonyms_replace_ids_in_columns_and_raw(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        {**GOOD, "id": "one", "card": CARD_NUMBER},
        {**GOOD, "id": "two", "card": CARD_NUMBER, "amount": "x"},
        {**GOOD, "id": "three", "card": ""},
    ]
    folder = write_csv(tmp_path, rows)
    with (folder / "part.csv").open("a", encoding="utf-8") as file:
        file.write(f"broken,{CARD_NUMBER}\n")
    found = validate(spark, folder, mapping(pseudonymise=["card_id"]))
    token = found["one"]["card_id"]
    assert len(token) == 64 and found["one"]["accepted"]
    assert token in found["two"]["raw"]
    assert found["three"]["reasons"] == ["missing_card_id"]
    assert "withheld" in found["broken"]["raw"]
    assert not any(CARD_NUMBER in str(row) for row in found.values())


@pytest.fixture
def tokyo(spark: SparkSession) -> Iterator[None]:
    """Set the time zone of the process and its JVM to Asia/Tokyo."""
    zones = spark._jvm.java.util.TimeZone
    before, variable = zones.getDefault(), os.environ.get("TZ")
    zones.setDefault(zones.getTimeZone("Asia/Tokyo"))
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    yield
    zones.setDefault(before)
    os.environ.pop("TZ")
    if variable is not None:
        os.environ["TZ"] = variable
    time.tzset()


@pytest.mark.usefixtures("tokyo")
def test_local_times_use_the_zone_of_the_mapping(spark: SparkSession, tmp_path: Path) -> None:
    folder = str(tmp_path / "rows")
    typed = spark.createDataFrame(
        [
            (1, "2024-10-27 02:30:00", 1.0005), (2, "2024-10-27 01:30:00", 2.0),
            (3, "2024-03-31 02:30:00", 3.0), (4, None, float("nan")),
        ],
        "id int, at string, amount double",
    )  # fmt: skip
    typed.select(
        "id", F.col("at").cast("timestamp_ntz"), "amount", F.lit(7).alias("card"),
        F.lit("m").alias("shop"), F.to_date("at").alias("day"), F.lit(0.1).alias("risk"),
    ).write.parquet(folder)  # fmt: skip
    dates = Dates(date(2024, 3, 31), date(2024, 10, 27))
    found = validate(spark, Path(folder), mapping(), "parquet", dates=dates)
    # 02:30 occurs twice that night; the first one is in summer time.
    assert found["1"]["micros"] == micros("2024-10-27T00:30:00+00:00")
    assert found["2"]["micros"] == micros("2024-10-26T23:30:00+00:00")
    assert str(found["1"]["amount"]) == "1.001" and found["1"]["card_id"] == "7"
    assert found["3"]["reasons"] == ["nonexistent_local_time"]
    # A row without a date is assigned to the first date.
    assert found["4"]["business_date"] == date(2024, 3, 31)
    assert "unreadable_business_date" in found["4"]["reasons"]
    assert "amount_not_finite" in found["4"]["reasons"]


def test_every_kind_of_duplicate_gets_its_reason(spark: SparkSession, tmp_path: Path) -> None:
    def row(name: str, day: str, amount: str = "1") -> dict[str, str]:
        at = "2024-03-29T10:00:00Z"
        return {**GOOD, "id": name, "at": at, "day": f"2024-{day}", "amount": amount}

    rows = [
        row("identical", "03-31"), row("identical", "03-31"), row("identical", "03-31"),
        row("conflict", "03-31"), row("conflict", "03-31", "2"),
        # An invalid duplicate conflicts with a valid one.
        row("half bad", "03-31"), row("half bad", "03-31", "x"),
        row("repeated", "03-31"), row("changed", "03-31", "2"), row("long ago", "03-31"),
        row("range", "03-30"), row("range", "03-31"), row("range change", "03-30"),
        row("range change", "03-31", "2"), row("no first", "03-30", "x"), row("no first", "03-31"),
        row("", "03-31"), row("", "03-31"),
        # Later nights have already accepted rows with these ids.
        row("repeated since", "03-30"), row("repeated since", "03-31"),
        row("changed since", "03-31", "2"), row("much later", "03-31"),
    ]  # fmt: skip
    folder = write_csv(tmp_path, rows)
    accepted = spark.sql(
        """select id as transaction_id, timestamp'2024-03-29 10:00:00Z' as event_time,
        day as business_date, current_timestamp() as ingest_time, 'c' as card_id,
        'm' as merchant_id, cast(1 as decimal(18,3)) as amount, 0.5D as risk
        from values ('repeated', date'2024-03-29'), ('changed', date'2024-03-24'),
        ('long ago', date'2024-03-22'), ('repeated since', date'2024-04-02'),
        ('changed since', date'2024-04-07'), ('much later', date'2024-04-08') as rows(id, day)"""
    )
    delivery = Delivery(str(folder), "csv", mapping())
    dates = Dates(date(2024, 3, 30), DAY)
    table = transactions_of(delivery)
    source = rows_for_dates(read_source(spark, delivery, table, dates), table, mapping(), dates)
    found = validated_transactions(source, accepted, mapping(), 7).collect()
    assert len(found) == len(rows)
    seen = sorted(
        (r["transaction_id"] or "", r["business_date"].day, tuple(r["reasons"])) for r in found
    )
    assert seen == sorted(
        [
            ("identical", 31, ()),
            ("identical", 31, ("identical_duplicate",)),
            ("identical", 31, ("identical_duplicate",)),
            ("conflict", 31, ("conflicting_duplicate",)),
            ("conflict", 31, ("conflicting_duplicate",)),
            ("half bad", 31, ("conflicting_duplicate",)),
            ("half bad", 31, ("unparsable_amount", "conflicting_duplicate")),
            ("repeated", 31, ("duplicate",)),
            ("changed", 31, ("conflicting_duplicate",)),
            ("long ago", 31, ()),
            ("range", 30, ()),
            ("range", 31, ("duplicate",)),
            ("range change", 30, ()),
            ("range change", 31, ("conflicting_duplicate",)),
            ("no first", 30, ("unparsable_amount",)),
            ("no first", 31, ()),
            ("", 31, ("missing_transaction_id",)),
            ("", 31, ("missing_transaction_id",)),
            ("repeated since", 30, ("duplicate",)),
            ("repeated since", 31, ("duplicate",)),
            ("changed since", 31, ("conflicting_duplicate",)),
            ("much later", 31, ()),
        ]
    )


def test_duplicates_with_conflicting_labels_are_quarantined(
    spark: SparkSession, tmp_path: Path
) -> None:
    columns = [*COLUMNS, "fraud"]
    rows = [
        {**GOOD, "id": "agree", "fraud": "1"}, {**GOOD, "id": "agree", "fraud": "1"},
        {**GOOD, "id": "differ", "fraud": "0"}, {**GOOD, "id": "differ", "fraud": "1"},
        # Only one of the duplicates has a label.
        {**GOOD, "id": "later", "fraud": ""}, {**GOOD, "id": "later", "fraud": "1"},
    ]  # fmt: skip
    labels = {"completeness": "complete", "label_delay_days": 7, "columns": {"is_fraud": "fraud"}}
    using = mapping(labels=labels)
    folder = write_csv(tmp_path, rows, columns)
    delivery, dates = Delivery(str(folder), "csv", using), Dates(DAY, DAY)
    source = rows_for_dates(
        read_source(spark, delivery, transactions_of(delivery), dates),
        transactions_of(delivery), using, dates,
    )  # fmt: skip
    no_rows = spark.createDataFrame([], TRANSACTIONS.ddl)
    validated = validated_transactions(source, no_rows, using, 7).collect()
    found = sorted((row["transaction_id"], tuple(row["reasons"])) for row in validated)
    accepted = {row["transaction_id"]: row["is_fraud"] for row in validated if row["accepted"]}
    assert accepted == {"agree": True, "later": True}
    assert found == [
        ("agree", ()),
        ("agree", ("identical_duplicate",)),
        ("differ", ("conflicting_duplicate",)),
        ("differ", ("conflicting_duplicate",)),
        ("later", ()),
        ("later", ("identical_duplicate",)),
    ]


def test_labels_of_a_separate_source_are_validated(spark: SparkSession, tmp_path: Path) -> None:
    labels = {
        "path": "labels", "completeness": "complete", "business_date": "day",
        "columns": {"transaction_id": "id", "is_fraud": "fraud", "label_time": "at"},
    }  # fmt: skip
    using = mapping(labels=labels)
    lines = [
        ("orphan", "1"), ("yes", "true"), ("again", "0"), ("again", "0"), ("both", "1"),
        ("both", "0"), ("repeated", "1"), ("changed", "0"), ("maybe", "perhaps"), ("", "1"),
        ("empty", ""),
    ]  # fmt: skip
    at, day = "2024-03-31T09:00:00Z", "2024-03-31"
    rows = [{"id": name, "fraud": fraud, "at": at, "day": day} for name, fraud in lines]
    rows += [{"id": "when", "fraud": "1", "at": "then", "day": day}]
    write_csv(tmp_path / "labels", rows, ["id", "fraud", "at", "day"])
    accepted = spark.sql(
        """select id as transaction_id, true as is_fraud, timestamp'2024-03-31 09:00:00Z' as
        label_time, 'delivery' as source, current_timestamp() as ingest_time,
        date'2024-03-30' as business_date from values ('repeated'), ('changed') as rows(id)"""
    ).select(*LABELS.column_names)
    delivery = Delivery(str(tmp_path), "csv", using)
    table = labels_of(delivery)
    assert table is not None
    dates = Dates(DAY, DAY)
    source = rows_for_dates(read_source(spark, delivery, table, dates), table, using, dates)
    found = validated_labels(source, accepted, using, 7).collect()
    seen = sorted(
        (
            row["transaction_id"] or "",
            "accepted" if row["accepted"] else "dropped" if row["dropped"] else row["reasons"][0],
        )
        for row in found
    )
    assert seen == [
        ("", "missing_transaction_id"),
        ("again", "accepted"),
        ("again", "dropped"),
        ("both", "conflicting_duplicate"),
        ("both", "conflicting_duplicate"),
        ("changed", "conflicting_duplicate"),
        ("empty", "missing_is_fraud"),
        ("maybe", "unparsable_is_fraud"),
        ("orphan", "accepted"),
        ("repeated", "dropped"),
        ("when", "unparsable_label_time"),
        ("yes", "accepted"),
    ]


def test_card_number_with_separators_is_detected(spark: SparkSession) -> None:
    from jobs.quality.rows.parsing import is_card_number

    card = CARD_NUMBER
    hidden = [card, f" {card}\n", f"{card[:4]}-{card[4:]}", ".".join(card), f"{card}\u00a0"]
    other = [card[:-1] + "0", f"x{card}", card[:8], ""]
    frame = spark.createDataFrame([(text,) for text in (*hidden, *other)], "id string")
    detected = [row[0] for row in frame.select(is_card_number(frame.id)).collect()]
    assert detected == [True] * len(hidden) + [False] * len(other)


JOINED = """id,at,card,shop,amount,day,risk,extra
one,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,x
first,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,"never closed
4111111111111111,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,"closed here"
last,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,C:\\new
"""


def test_rows_joined_by_stray_quotes_are_quarantined(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "part.csv").write_text(JOINED, encoding="utf-8")
    found = validate(spark, tmp_path, mapping(line_breaks="refused"))
    # The reader joins two rows into one record whose columns are all valid.
    assert set(found) == {"one", "first", "last"}
    assert found["one"]["accepted"] and found["last"]["accepted"]
    assert found["first"]["reasons"] == ["record_of_many_lines"]
    assert "****1111" in found["first"]["raw"]
    secret = mapping(line_breaks="refused", pseudonymise=["transaction_id"])
    withheld = [row["raw"] for row in validate(spark, tmp_path, secret).values() if row["raw"]]
    assert len(withheld) == 1 and "withheld" in withheld[0]


def test_text_with_invalid_utf8_is_quarantined(spark: SparkSession, tmp_path: Path) -> None:
    folder = write_csv(tmp_path / "csv", [{**GOOD, "id": "good"}])
    with (folder / "part.csv").open("ab") as file:
        file.write(b"mapped,2024-03-31 10:00:00,caf\xe9,m,1,2024-03-31,0.5,x\n")
        file.write(b"ignored,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,caf\xe9\n")
    secret = mapping(pseudonymise=["card_id", "merchant_id"])
    for using in (mapping(), secret):
        found = validate(spark, folder, using)
        reasons = {name: row["reasons"] for name, row in found.items()}
        assert reasons == {"good": [], "mapped": ["unreadable_text"], "ignored": []}
    spark.sql(
        """select id, '2024-03-31 10:00:00' as at, cast(card as string) as card, 'm' as shop,
        '1' as amount, '2024-03-31' as day, '0.5' as risk
        from values ('good', X'63'), ('bad', X'636166E9') as rows(id, card)"""
    ).write.parquet(str(tmp_path / "parquet"))
    for using in (mapping(), secret):
        found = validate(spark, tmp_path / "parquet", using, "parquet")
        assert found["good"]["accepted"]
        assert found["bad"]["reasons"] == ["unreadable_text"]
        assert "2024-03-31" in found["bad"]["raw"]


def test_source_columns_can_have_any_name(spark: SparkSession, tmp_path: Path) -> None:
    names = {
        "id": "i`d", "at": "a.t", "card": "car d", "shop": "sh;op", "amount": 'am"ount',
        "day": "`day`", "risk": "risk", "extra": "); DROP TABLE x; --",
    }  # fmt: skip
    rows = [{names[key]: value for key, value in GOOD.items()}]
    folder = write_csv(
        tmp_path, [*rows, {**rows[0], "i`d": "bad", 'am"ount': "x"}], [*names.values()]
    )
    columns = {
        "transaction_id": "i`d", "event_time": "a.t", "card_id": "car d", "merchant_id": "sh;op",
        "amount": 'am"ount',
    }  # fmt: skip
    part = {"business_date": "`day`", "columns": columns, "attributes": {"risk": "numeric"}}
    found = validate(spark, folder, mapping(transactions=part))
    assert found["t"]["accepted"] and found["t"]["card_id"] == "c"
    assert '"i`d":"bad"' in found["bad"]["raw"]
    secret = mapping(transactions=part, pseudonymise=["transaction_id", "card_id"])
    hidden = validate(spark, folder, secret).values()
    assert {len(row["card_id"]) for row in hidden} == {64}
    assert not any('"i`d":"bad"' in (row["raw"] or "") for row in hidden)
