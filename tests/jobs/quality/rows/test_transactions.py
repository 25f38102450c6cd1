"""Every row rule, seen refusing and passing, on real files and without a lake."""

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
from jobs.deliveries.source import Delivery, labels_of, read_source, transactions_of
from jobs.lake.dates import Dates
from jobs.lake.tables import LABELS, TRANSACTIONS
from jobs.quality.rows.labels import judged_labels
from jobs.quality.rows.rules import Reason, sentence
from jobs.quality.rows.transactions import judged_transactions, of_dates, pseudonymised

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


def write_csv(place: Path, rows: list[dict[str, str]], columns: list[str] = COLUMNS) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    with (place / "part.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return place


def judge(
    spark: SparkSession,
    place: Path,
    using: Mapping,
    format_: Any = "csv",
    earlier: DataFrame | None = None,
    dates: Dates | None = None,
) -> dict[str, Any]:
    """Judged rows by transaction id; rows without one stand under their amount's text."""
    delivery = Delivery(str(place), format_, using)
    dates = dates or Dates(DAY, DAY)
    table = transactions_of(delivery)
    rows = of_dates(read_source(spark, delivery, table, dates), table, using, dates)
    secret = [getattr(using.transactions.columns, name) for name in using.pseudonymise]
    rows = pseudonymised(rows, secret, SecretStr("0123456789abcdef"))
    if earlier is None:
        earlier = spark.createDataFrame([], TRANSACTIONS.ddl)
    judged = judged_transactions(rows, earlier, using, 7)
    found = judged.withColumn("micros", F.unix_micros("event_time")).collect()
    assert len({row["transaction_id"] for row in found}) == len(found)
    return {row["transaction_id"]: row for row in found}


def micros(text: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)


REFUSED = {
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
FURTHER = {
    "time only": ({"at": "10:00:00"}, ["unparsable_event_time"]),
    "impossible date": ({"at": "2024-02-31 10:00:00"}, ["unparsable_event_time"]),
    "huge exponent": ({"amount": "1e999999999"}, ["amount_out_of_range"]),
    "tiny exponent": ({"amount": "1e-999999999"}, ["amount_out_of_range"]),
    "java suffix": ({"amount": "12d"}, ["unparsable_amount"]),
    "nan": ({"amount": "NaN"}, ["amount_not_finite"]),
    "two": ({"amount": "x", "card": ""}, ["missing_card_id", "unparsable_amount"]),
}
ACCEPTED = {
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
def judged(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    rows = [{**GOOD, "id": name, **change} for name, change in REFUSED.items()]
    rows += [{**GOOD, "id": name, **change} for name, (change, _) in FURTHER.items()]
    rows += [{**GOOD, "id": name, **change} for name, change in ACCEPTED.items()]
    place = write_csv(tmp_path_factory.mktemp("rules"), rows)
    with (place / "part.csv").open("a", encoding="utf-8") as file:
        file.write(f"short,2024-03-31 10:00:00,{CARD_NUMBER}\n")
        file.write("long,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,x,one,too,many\n")
        file.write(',2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,"no id"\n')
    return judge(spark, place, mapping())


@pytest.mark.parametrize("reason", REFUSED)
def test_a_rule_refuses(judged: dict[str, Any], reason: str) -> None:
    assert judged[reason]["reasons"] == [reason]
    assert not judged[reason]["accepted"]
    assert sentence(reason) == Reason[reason.upper()].value


@pytest.mark.parametrize("name", FURTHER)
def test_further_values_are_refused(judged: dict[str, Any], name: str) -> None:
    assert judged[name]["reasons"] == FURTHER[name][1]


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_rules_let_pass(judged: dict[str, Any], name: str) -> None:
    assert judged[name]["reasons"] == []
    assert judged[name]["raw"] is None


def test_values_are_read_exactly(judged: dict[str, Any]) -> None:
    amounts = {name: str(judged[name]["amount"]) for name in ACCEPTED}
    assert amounts["plain"] == "12.345"
    assert amounts["rounded up"] == "0.001"
    assert amounts["rounded down"] == "0.000"
    assert amounts["exponent"] == "1500.000"
    assert judged["'; DROP TABLE x; --"]["card_id"] == '"quoted", and\nbroken'
    times = {name: judged[name]["micros"] for name in ACCEPTED}
    assert times["zoned"] == micros("2024-03-30T19:30:00+00:00")
    assert times["winter"] == micros("2024-03-31T00:59:59+00:00")
    assert times["summer"] == micros("2024-03-31T01:00:00+00:00")


def test_malformed_records_are_kept_and_refused(judged: dict[str, Any]) -> None:
    assert "malformed_record" in judged["short"]["reasons"]
    assert "malformed_record" in judged["long"]["reasons"]
    assert "too,many" in judged["long"]["raw"]
    assert judged[None]["reasons"] == ["missing_transaction_id"]


def test_raw_rows_have_all_source_columns_and_no_card_number(judged: dict[str, Any]) -> None:
    assert '"extra":"x"' in judged["unparsable_amount"]["raw"]
    assert '"amount":"12,50"' in judged["unparsable_amount"]["raw"]
    for row in judged.values():
        assert row["raw"] is None or CARD_NUMBER not in row["raw"].replace(" ", "").replace("-", "")
    assert "1111" in judged["card_number_in_id"]["raw"]


def test_a_masked_row_is_still_json(spark: SparkSession, tmp_path: Path) -> None:
    spark.sql(
        f"""select 't' as id, timestamp'2024-03-31 10:00:00Z' as at, '{CARD_NUMBER}' as card,
        'm' as shop, 1.5D as amount, date'2024-03-31' as day, -1.4186833796292809e-16D as risk"""
    ).write.parquet(str(tmp_path / "rows"))
    raw = judge(spark, tmp_path / "rows", mapping(), "parquet")["t"]["raw"]
    assert json.loads(raw)["risk"].startswith("-1.")
    assert json.loads(raw)["card"] == "****1111"


def test_card_numbers_in_nested_columns_and_fractions_are_masked(
    spark: SparkSession, tmp_path: Path
) -> None:
    spark.sql(
        f"""select 't' as id, timestamp'2024-03-31 10:00:00Z' as at, 'c' as card, 'm' as shop,
        -1.5D as amount, date'2024-03-31' as day, 0.5D as risk,
        named_struct('exp', '12/30', 'pan', '{CARD_NUMBER}') as nested,
        array('{CARD_NUMBER}') as pans, map('{CARD_NUMBER}', 1) as by_pan,
        {CARD_NUMBER}D as fraction, 2.5D as other, 1e300D as huge, double('NaN') as none"""
    ).write.parquet(str(tmp_path / "rows"))
    raw = json.loads(judge(spark, tmp_path / "rows", mapping(), "parquet")["t"]["raw"])
    assert json.loads(raw["nested"]) == {"exp": "12/30", "pan": "****1111"}
    assert raw["pans"] == '["****1111"]' and raw["by_pan"] == '{"****1111":1}'
    assert raw["fraction"] == "****1111" and raw["other"] == "2.5"
    assert (raw["huge"], raw["none"]) == ("1.0E300", "NaN")


def test_pseudonyms_replace_ids_also_in_raw_rows(spark: SparkSession, tmp_path: Path) -> None:
    rows = [
        {**GOOD, "id": "one", "card": CARD_NUMBER},
        {**GOOD, "id": "two", "card": CARD_NUMBER, "amount": "x"},
        {**GOOD, "id": "three", "card": ""},
    ]
    place = write_csv(tmp_path, rows)
    with (place / "part.csv").open("a", encoding="utf-8") as file:
        file.write(f"broken,{CARD_NUMBER}\n")
    found = judge(spark, place, mapping(pseudonymise=["card_id"]))
    token = found["one"]["card_id"]
    assert len(token) == 64 and found["one"]["accepted"]
    assert token in found["two"]["raw"]
    assert found["three"]["reasons"] == ["missing_card_id"]
    assert "withheld" in found["broken"]["raw"]
    assert not any(CARD_NUMBER in str(row) for row in found.values())


@pytest.fixture
def tokyo(spark: SparkSession) -> Iterator[None]:
    """The process and its JVM live in Tokyo."""
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
def test_local_times_are_read_in_the_mapping_s_zone(spark: SparkSession, tmp_path: Path) -> None:
    place = str(tmp_path / "rows")
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
    ).write.parquet(place)  # fmt: skip
    dates = Dates(date(2024, 3, 31), date(2024, 10, 27))
    found = judge(spark, Path(place), mapping(), "parquet", dates=dates)
    # 02:30 happens twice that night; the first is in summer time.
    assert found["1"]["micros"] == micros("2024-10-27T00:30:00+00:00")
    assert found["2"]["micros"] == micros("2024-10-26T23:30:00+00:00")
    assert str(found["1"]["amount"]) == "1.001" and found["1"]["card_id"] == "7"
    assert found["3"]["reasons"] == ["nonexistent_local_time"]
    # A row without a date stands under the delivery's first.
    assert found["4"]["business_date"] == date(2024, 3, 31)
    assert "unreadable_business_date" in found["4"]["reasons"]
    assert "amount_not_finite" in found["4"]["reasons"]


def test_copies_of_all_kinds(spark: SparkSession, tmp_path: Path) -> None:
    def row(name: str, day: str, amount: str = "1") -> dict[str, str]:
        at = "2024-03-29T10:00:00Z"
        return {**GOOD, "id": name, "at": at, "day": f"2024-{day}", "amount": amount}

    rows = [
        row("identical", "03-31"), row("identical", "03-31"), row("identical", "03-31"),
        row("conflict", "03-31"), row("conflict", "03-31", "2"),
        # One copy that cannot be read contradicts the other.
        row("half bad", "03-31"), row("half bad", "03-31", "x"),
        row("told", "03-31"), row("changed", "03-31", "2"), row("long ago", "03-31"),
        row("range", "03-30"), row("range", "03-31"), row("range change", "03-30"),
        row("range change", "03-31", "2"), row("no first", "03-30", "x"), row("no first", "03-31"),
        row("", "03-31"), row("", "03-31"),
        # Later nights that stand already have brought these.
        row("told since", "03-30"), row("told since", "03-31"), row("changed since", "03-31", "2"),
        row("much later", "03-31"),
    ]  # fmt: skip
    place = write_csv(tmp_path, rows)
    earlier = spark.sql(
        """select id as transaction_id, timestamp'2024-03-29 10:00:00Z' as event_time,
        day as business_date, current_timestamp() as ingest_time, 'c' as card_id,
        'm' as merchant_id, cast(1 as decimal(18,3)) as amount, 0.5D as risk
        from values ('told', date'2024-03-29'), ('changed', date'2024-03-24'),
        ('long ago', date'2024-03-22'), ('told since', date'2024-04-02'),
        ('changed since', date'2024-04-07'), ('much later', date'2024-04-08') as rows(id, day)"""
    )
    delivery = Delivery(str(place), "csv", mapping())
    dates = Dates(date(2024, 3, 30), DAY)
    table = transactions_of(delivery)
    source = of_dates(read_source(spark, delivery, table, dates), table, mapping(), dates)
    found = judged_transactions(source, earlier, mapping(), 7).collect()
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
            ("told", 31, ("duplicate",)),
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
            ("told since", 30, ("duplicate",)),
            ("told since", 31, ("duplicate",)),
            ("changed since", 31, ("conflicting_duplicate",)),
            ("much later", 31, ()),
        ]
    )


def test_copies_whose_own_labels_contradict_each_other(spark: SparkSession, tmp_path: Path) -> None:
    columns = [*COLUMNS, "fraud"]
    rows = [
        {**GOOD, "id": "agree", "fraud": "1"}, {**GOOD, "id": "agree", "fraud": "1"},
        {**GOOD, "id": "differ", "fraud": "0"}, {**GOOD, "id": "differ", "fraud": "1"},
        # Not known yet in one copy, and known in the other.
        {**GOOD, "id": "later", "fraud": ""}, {**GOOD, "id": "later", "fraud": "1"},
    ]  # fmt: skip
    told = {"completeness": "complete", "label_delay_days": 7, "columns": {"is_fraud": "fraud"}}
    using = mapping(labels=told)
    place = write_csv(tmp_path, rows, columns)
    delivery, dates = Delivery(str(place), "csv", using), Dates(DAY, DAY)
    source = of_dates(
        read_source(spark, delivery, transactions_of(delivery), dates),
        transactions_of(delivery), using, dates,
    )  # fmt: skip
    judged = judged_transactions(source, spark.createDataFrame([], TRANSACTIONS.ddl), using, 7)
    judgements = judged.collect()
    found = sorted((row["transaction_id"], tuple(row["reasons"])) for row in judgements)
    accepted = {row["transaction_id"]: row["is_fraud"] for row in judgements if row["accepted"]}
    assert accepted == {"agree": True, "later": True}
    assert found == [
        ("agree", ()),
        ("agree", ("identical_duplicate",)),
        ("differ", ("conflicting_duplicate",)),
        ("differ", ("conflicting_duplicate",)),
        ("later", ()),
        ("later", ("identical_duplicate",)),
    ]


def test_labels_of_their_own(spark: SparkSession, tmp_path: Path) -> None:
    labels = {
        "path": "labels", "completeness": "complete", "business_date": "day",
        "columns": {"transaction_id": "id", "is_fraud": "fraud", "label_time": "at"},
    }  # fmt: skip
    using = mapping(labels=labels)
    lines = [
        ("orphan", "1"), ("yes", "true"), ("again", "0"), ("again", "0"), ("both", "1"),
        ("both", "0"), ("told", "1"), ("changed", "0"), ("maybe", "perhaps"), ("", "1"),
        ("empty", ""),
    ]  # fmt: skip
    at, day = "2024-03-31T09:00:00Z", "2024-03-31"
    rows = [{"id": name, "fraud": fraud, "at": at, "day": day} for name, fraud in lines]
    rows += [{"id": "when", "fraud": "1", "at": "then", "day": day}]
    write_csv(tmp_path / "labels", rows, ["id", "fraud", "at", "day"])
    earlier = spark.sql(
        """select id as transaction_id, true as is_fraud, timestamp'2024-03-31 09:00:00Z' as
        label_time, 'delivery' as source, current_timestamp() as ingest_time,
        date'2024-03-30' as business_date from values ('told'), ('changed') as rows(id)"""
    ).select(*LABELS.column_names)
    delivery = Delivery(str(tmp_path), "csv", using)
    table = labels_of(delivery)
    assert table is not None
    dates = Dates(DAY, DAY)
    source = of_dates(read_source(spark, delivery, table, dates), table, using, dates)
    found = judged_labels(source, earlier, using, 7).collect()
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
        ("told", "dropped"),
        ("when", "unparsable_label_time"),
        ("yes", "accepted"),
    ]


def test_a_card_number_in_disguise_is_one(spark: SparkSession) -> None:
    from jobs.quality.rows.parsing import is_card_number

    card = CARD_NUMBER
    hidden = [card, f" {card}\n", f"{card[:4]}-{card[4:]}", ".".join(card), f"{card}\u00a0"]
    other = [card[:-1] + "0", f"x{card}", card[:8], ""]
    frame = spark.createDataFrame([(text,) for text in (*hidden, *other)], "id string")
    found = [row[0] for row in frame.select(is_card_number(frame.id)).collect()]
    assert found == [True] * len(hidden) + [False] * len(other)


JOINED = """id,at,card,shop,amount,day,risk,extra
one,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,x
first,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,"never closed
4111111111111111,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,"closed here"
last,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,C:\\new
"""


def test_rows_joined_by_stray_quotes_are_noticed(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "part.csv").write_text(JOINED, encoding="utf-8")
    found = judge(spark, tmp_path, mapping(line_breaks="refused"))
    # The reader makes one record of two rows, and nothing in its columns is wrong.
    assert set(found) == {"one", "first", "last"}
    assert found["one"]["accepted"] and found["last"]["accepted"]
    assert found["first"]["reasons"] == ["record_of_many_lines"]
    assert "****1111" in found["first"]["raw"]
    secret = mapping(line_breaks="refused", pseudonymise=["transaction_id"])
    withheld = [row["raw"] for row in judge(spark, tmp_path, secret).values() if row["raw"]]
    assert len(withheld) == 1 and "withheld" in withheld[0]


def test_text_that_is_no_utf_8_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    place = write_csv(tmp_path / "csv", [{**GOOD, "id": "good"}])
    with (place / "part.csv").open("ab") as file:
        file.write(b"mapped,2024-03-31 10:00:00,caf\xe9,m,1,2024-03-31,0.5,x\n")
        file.write(b"ignored,2024-03-31 10:00:00,c,m,1,2024-03-31,0.5,caf\xe9\n")
    secret = mapping(pseudonymise=["card_id", "merchant_id"])
    for using in (mapping(), secret):
        found = judge(spark, place, using)
        reasons = {name: row["reasons"] for name, row in found.items()}
        assert reasons == {"good": [], "mapped": ["unreadable_text"], "ignored": []}
    spark.sql(
        """select id, '2024-03-31 10:00:00' as at, cast(card as string) as card, 'm' as shop,
        '1' as amount, '2024-03-31' as day, '0.5' as risk
        from values ('good', X'63'), ('bad', X'636166E9') as rows(id, card)"""
    ).write.parquet(str(tmp_path / "parquet"))
    for using in (mapping(), secret):
        found = judge(spark, tmp_path / "parquet", using, "parquet")
        assert found["good"]["accepted"]
        assert found["bad"]["reasons"] == ["unreadable_text"]
        assert "2024-03-31" in found["bad"]["raw"]


def test_columns_may_have_any_name(spark: SparkSession, tmp_path: Path) -> None:
    names = {
        "id": "i`d", "at": "a.t", "card": "car d", "shop": "sh;op", "amount": 'am"ount',
        "day": "`day`", "risk": "risk", "extra": "); DROP TABLE x; --",
    }  # fmt: skip
    rows = [{names[key]: value for key, value in GOOD.items()}]
    place = write_csv(
        tmp_path, [*rows, {**rows[0], "i`d": "bad", 'am"ount': "x"}], [*names.values()]
    )
    columns = {
        "transaction_id": "i`d", "event_time": "a.t", "card_id": "car d", "merchant_id": "sh;op",
        "amount": 'am"ount',
    }  # fmt: skip
    part = {"business_date": "`day`", "columns": columns, "attributes": {"risk": "numeric"}}
    found = judge(spark, place, mapping(transactions=part))
    assert found["t"]["accepted"] and found["t"]["card_id"] == "c"
    assert '"i`d":"bad"' in found["bad"]["raw"]
    secret = mapping(transactions=part, pseudonymise=["transaction_id", "card_id"])
    hidden = judge(spark, place, secret).values()
    assert {len(row["card_id"]) for row in hidden} == {64}
    assert not any('"i`d":"bad"' in (row["raw"] or "") for row in hidden)
