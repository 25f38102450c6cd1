"""Deliveries as people make them: each with what is right, and that it is.

A case writes files, reads them with a mapping, and expects for every row its values, or the reason
codes of its quarantine.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.deliveries.mapping import Mapping
from jobs.deliveries.reading import read_source
from jobs.deliveries.source import Delivery, Format, labels_of, transactions_of
from jobs.lake.dates import Dates
from jobs.lake.tables import LABELS, TRANSACTIONS
from jobs.quality.rows.labels import validated_labels
from jobs.quality.rows.transactions import rows_for_dates, validated_transactions

pytestmark = pytest.mark.spark

DAY = date(2024, 3, 5)
AT = "2024-03-05 10:30:00"
HEADER = "id,at,card,shop,amount"
GOOD = ("2024-03-05 10:30:00", "c1", "m1", "12.300")


def mapping(
    columns: dict[str, str] | None = None,
    part: dict[str, Any] | None = None,
    labels: dict[str, Any] | None = None,
    **changes: Any,
) -> Mapping:
    names = {
        "transaction_id": "id", "event_time": "at", "card_id": "card", "merchant_id": "shop",
        "amount": "amount",
    }  # fmt: skip
    transactions = {"business_date": "event_date", "columns": {**names, **(columns or {})}}
    content: dict[str, Any] = {
        "name": "bank", "currency": "EUR", "refunds": "negative",
        "transactions": {**transactions, **(part or {})},
    }  # fmt: skip
    if labels:
        content["labels"] = labels
    return Mapping.model_validate({**content, **changes})


def validated(
    spark: SparkSession, folder: Path, using: Mapping, file_format: Format = "csv"
) -> dict[str, dict[str, Any]]:
    """Return every row of a delivery by transaction id."""
    frame = validated_frame(spark, folder, using, file_format)
    return {row["transaction_id"]: row.asDict() for row in frame.collect()}


def validated_frame(
    spark: SparkSession, folder: Path, using: Mapping, file_format: Format = "csv"
) -> DataFrame:
    """Return the validated rows of a delivery's transactions."""
    delivery, dates = Delivery(str(folder), file_format, using), Dates(DAY, DAY)
    table = transactions_of(delivery)
    rows = rows_for_dates(read_source(spark, delivery, table, dates), table, using, dates)
    accepted = spark.createDataFrame([], TRANSACTIONS.ddl)
    return validated_transactions(rows, accepted, using, late_days=7)


def short(row: dict[str, Any]) -> tuple[str, ...] | list[str]:
    """Return time, card, merchant and amount of an accepted row, or the reasons of another."""
    if row["reasons"]:
        return list(row["reasons"])
    amount = str(row["amount"])
    return (str(row["event_time"]), row["card_id"], row["merchant_id"], amount)


@dataclass(frozen=True)
class Case:
    """A CSV file, the mapping that reads it, and what its rows become, by transaction id."""

    text: str
    expected: dict[str, Any]
    format: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    part: dict[str, Any] = field(default_factory=dict)
    changes: dict[str, Any] = field(default_factory=dict)
    encoding: str = "utf-8"


def amounts(**values: str) -> str:
    rows = [f'{name},{AT},c1,m1,"{value}"' for name, value in values.items()]
    return "\n".join([HEADER, *rows]) + "\n"


def with_amount(amount: str) -> tuple[str, ...]:
    return (*GOOD[:3], amount)


CASES = {
    "semicolon and decimal comma": Case(
        f"id;at;card;shop;amount\nt1;{AT};c1;m1;12,30\nt2;{AT};c1;m1;12.30\n",
        # In this notation a point is a mistake: perhaps of thousands.
        {"t1": GOOD, "t2": ["unparsable_amount"]},
        format={"delimiter": ";", "decimal": ","},
    ),
    "tab": Case(
        HEADER.replace(",", "\t") + f"\nt1\t{AT}\tc1\tm1\t12.30\n",
        {"t1": GOOD},
        format={"delimiter": "\t"},
    ),
    "pipe": Case(
        HEADER.replace(",", "|") + f"\nt1|{AT}|c1|m1|12.30\n",
        {"t1": GOOD},
        format={"delimiter": "|"},
    ),
    "latin-1": Case(
        f"{HEADER}\nt1,{AT},c1,Café,12.30\n",
        {"t1": (GOOD[0], "c1", "Café", "12.300")},
        format={"encoding": "latin-1"},
        encoding="latin-1",
    ),
    "windows-1252": Case(
        f"{HEADER}\nt1,{AT},c1,Café €,12.30\n",
        {"t1": (GOOD[0], "c1", "Café €", "12.300")},
        format={"encoding": "cp1252"},
        encoding="cp1252",
    ),
    "latin-1 that is read as UTF-8": Case(
        f"{HEADER}\nt1,{AT},c1,Café,12.30\nt2,{AT},c1,m1,12.30\n",
        {"t1": ["unreadable_text"], "t2": GOOD},
        encoding="latin-1",
    ),
    "UTF-16 with its mark": Case(
        f"{HEADER}\nt1,{AT},c1,Łódź,12.30\n",
        {"t1": (GOOD[0], "c1", "Łódź", "12.300")},
        format={"encoding": "utf-16"},
        encoding="utf-16",
    ),
    "UTF-8 with its mark": Case(
        f"{HEADER}\nt1,{AT},c1,m1,12.30\n", {"t1": GOOD}, encoding="utf-8-sig"
    ),
    "day first": Case(
        f"{HEADER}\nt1,05.03.2024 10:30:00,c1,m1,12.30\nt2,2024-03-05 10:30:00,c1,m1,12.30\n"
        "t3,31.02.2024 10:30:00,c1,m1,12.30\n",
        {"t1": GOOD, "t2": ["unparsable_event_time"], "t3": ["unparsable_event_time"]},
        format={"times": "dd.MM.yyyy HH:mm:ss"},
    ),
    "day first in a zone": Case(
        f"{HEADER}\nt1,05/03/2024 11:30,c1,m1,12.30\n",
        {"t1": GOOD},
        format={"times": "dd/MM/yyyy HH:mm"},
        changes={"zone": "Europe/Paris"},
    ),
    "a pattern with an offset": Case(
        f"{HEADER}\nt1,05/03/2024 12:30 +02:00,c1,m1,12.30\n",
        {"t1": GOOD},
        format={"times": "dd/MM/yyyy HH:mm XXX"},
        changes={"zone": "Europe/Paris"},
    ),
    "hours of twelve": Case(
        f"{HEADER}\nt1,3/5/2024 10:30 AM,c1,m1,12.30\nt2,3/5/2024 12:00 AM,c1,m1,12.30\n",
        {"t1": GOOD, "t2": ("2024-03-05 00:00:00", *GOOD[1:])},
        format={"times": "M/d/yyyy h:mm a"},
    ),
    "epoch seconds": Case(
        f"{HEADER}\nt1,1709634600,c1,m1,12.30\nt2,1709634600.5,c1,m1,12.30\nt3,soon,c1,m1,1\n",
        {
            "t1": GOOD,
            "t2": ("2024-03-05 10:30:00.500000", *GOOD[1:]),
            "t3": ["unparsable_event_time"],
        },
        format={"times": "epoch_s"},
    ),
    "epoch milliseconds": Case(
        f"{HEADER}\nt1,1709634600123,c1,m1,12.30\n",
        {"t1": ("2024-03-05 10:30:00.123000", *GOOD[1:])},
        format={"times": "epoch_ms"},
    ),
    "padded ids": Case(
        f"{HEADER}\nt1,{AT},c1      ,  m1,12.30\nt2   ,{AT},\N{NO-BREAK SPACE}c1\t,m1,12.30\n"
        f"t3,{AT},0c1,m1,12.30\n",
        {"t1": GOOD, "t2": GOOD, "t3": (GOOD[0], "0c1", *GOOD[2:])},
    ),
    "mixed currencies without rates": Case(
        f"{HEADER},ccy\nt1,{AT},c1,m1,12.30,EUR\nt2,{AT},c1,m1,1600.00,JPY\nt3,{AT},c1,m1,5,\n"
        f"t4,{AT},c1,m1,12.30, eur \n",
        {"t1": GOOD, "t2": ["foreign_currency"], "t3": ["foreign_currency"], "t4": GOOD},
        columns={"currency": "ccy"},
    ),
    "mixed currencies with rates": Case(
        f"{HEADER},ccy\nt1,{AT},c1,m1,12.30,EUR\nt2,{AT},c1,m1,1600.00,JPY\nt3,{AT},c1,m1,5,CHF\n"
        f"t4,{AT},c1,m1,20.00,USD\nt5,2024-03-02 10:30:00,c1,m1,20.00,USD\n"
        f"t6,{AT},c1,m1,12.30,978\n",
        {
            "t1": GOOD,
            "t2": with_amount("10.240"),
            "t3": ["foreign_currency"],
            "t4": with_amount("18.400"),
            "t5": None,
            "t6": GOOD,
        },
        columns={"currency": "ccy"},
        changes={
            "currencies": {
                "JPY": 0.0064,
                "USD": {"2024-03-01": 0.5, "2024-03-05": 0.92, "2024-03-06": 0.1},
                "978": 1,
            }
        },
    ),
    "no merchant, refused": Case(
        f"{HEADER}\nt1,{AT},c1,,12.30\nt2,{AT},c1,m1,12.30\n",
        {"t1": ["missing_merchant_id"], "t2": GOOD},
    ),
    "no merchant, named": Case(
        f"{HEADER}\nt1,{AT},c1, ,12.30\nt2,{AT},c1,m1,12.30\n",
        {"t1": (GOOD[0], "c1", "cash", "12.300"), "t2": GOOD},
        part={"no_merchant": "cash"},
    ),
    "groups of digits": Case(
        amounts(t1="1.234,50", t2="12,30", t3="1.23", t4="1.234.567", t5="1.2345,0", t6="12.345"),
        {
            "t1": with_amount("1234.500"),
            "t2": GOOD,
            "t3": ["unparsable_amount"],
            "t4": with_amount("1234567.000"),
            "t5": ["unparsable_amount"],
            "t6": with_amount("12345.000"),
        },
        format={"decimal": ",", "thousands": "."},
    ),
    "groups of digits by blanks": Case(
        amounts(t1="1 234,50", t2="1\N{NARROW NO-BREAK SPACE}234,50", t3="12 34"),
        {
            "t1": with_amount("1234.500"),
            "t2": with_amount("1234.500"),
            "t3": ["unparsable_amount"],
        },
        format={"decimal": ",", "thousands": " "},
    ),
    "Indian groups of digits": Case(
        amounts(t1="12,34,567.50", t2="1,23"),
        {"t1": with_amount("1234567.500"), "t2": ["unparsable_amount"]},
        format={"thousands": ","},
    ),
    "signs behind, in brackets and of the currency": Case(
        amounts(
            t1="12.30-", t2="(12.30)", t3="€12.30", t4="12.30 EUR", t5="-€ 12.30", t6="$12.30",
            t7="12.30 USD", t8="--12.30", t9="(-12.30)", ta="\N{MINUS SIGN}12.30", tb="12.30+",
            tc="-12.30-", td="(12.30", te="1,234.50",
        ),
        {
            "t1": with_amount("-12.300"), "t2": with_amount("-12.300"), "t3": GOOD, "t4": GOOD,
            "t5": with_amount("-12.300"), "t6": ["unparsable_amount"],
            "t7": ["unparsable_amount"], "t8": ["unparsable_amount"],
            "t9": ["unparsable_amount"], "ta": with_amount("-12.300"), "tb": GOOD,
            "tc": ["unparsable_amount"], "td": ["unparsable_amount"],
            "te": ["unparsable_amount"],
        },
    ),
    "a negative amount that is refused": Case(
        amounts(t1="12.30-", t2="12.30"),
        {"t1": ["negative_amount"], "t2": GOOD},
        changes={"refunds": "refused"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def csv_rows(
    spark: SparkSession, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Return the rows of all CSV cases, by case and transaction id; one Spark job reads them."""
    columns = ["transaction_id", "event_time", "card_id", "merchant_id", "amount", "reasons"]
    frames = []
    for name, case in CASES.items():
        folder = tmp_path_factory.mktemp("delivery")
        (folder / "part.csv").write_bytes(case.text.encode(case.encoding))
        using = mapping(case.columns, case.part, format=case.format, **case.changes)
        rows = validated_frame(spark, folder, using).select(*columns)
        frames.append(rows.withColumn("case", F.lit(name)))
    found: dict[str, dict[str, Any]] = {name: {} for name in CASES}
    for row in reduce(DataFrame.union, frames).collect():
        found[row["case"]][row["transaction_id"]] = row.asDict()
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_csv_file_is_read_as_its_mapping_says(
    csv_rows: dict[str, dict[str, Any]], name: str
) -> None:
    # A row of another night is in neither of this night's tables.
    expected = {key: value for key, value in CASES[name].expected.items() if value is not None}
    assert {key: short(row) for key, row in csv_rows[name].items()} == expected


def test_the_original_amount_and_currency_are_kept(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "part.csv").write_text(f"{HEADER},ccy\nt1,{AT},c1,m1,1600.00,jpy\n")
    using = mapping({"currency": "ccy"}, currencies={"JPY": 0.0064})
    row = validated(spark, tmp_path, using)["t1"]
    assert row["amount"] == Decimal("10.240")
    assert (row["original_amount"], row["original_currency"]) == (Decimal("1600.000"), "JPY")


# -- labels --------------------------------------------------------------------------------------

LABELLED = f"{HEADER},fraud\n"


def label_mapping(**values: Any) -> Mapping:
    return mapping(
        labels={
            "completeness": "complete", "label_delay_days": 7, "columns": {"is_fraud": "fraud"},
            **values,
        }
    )  # fmt: skip


def test_texts_of_labels_mean_what_the_mapping_says(spark: SparkSession, tmp_path: Path) -> None:
    texts = {"t1": "Y", "t2": "CONFIRMED ", "t3": "N", "t4": "CLEARED", "t5": "maybe", "t6": ""}
    rows = [f"{name},{AT},c1,m1,12.30,{text}" for name, text in texts.items()]
    (tmp_path / "part.csv").write_text(LABELLED + "\n".join(rows) + "\n")
    using = label_mapping(values={"fraud": ["Y", "CONFIRMED"], "genuine": ["N", "CLEARED"]})
    found = validated(spark, tmp_path, using)
    flags = {name: row["is_fraud"] for name, row in found.items()}
    assert flags == {"t1": True, "t2": True, "t3": False, "t4": False, "t5": None, "t6": None}
    reasons = {name: row["label_reasons"] for name, row in found.items() if row["label_reasons"]}
    assert reasons == {"t5": ["unparsable_is_fraud"]}


def test_a_reversed_chargeback_is_genuine_from_its_own_time(
    spark: SparkSession, tmp_path: Path
) -> None:
    for folder in ("tx", "labels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tx" / "part.csv").write_text(f"{HEADER}\nt1,{AT},c1,m1,12.30\n")
    (tmp_path / "labels" / "part.csv").write_text(
        "id,status,known,day\n"
        "t1,CHARGEBACK,2024-03-05 12:00:00,2024-03-05\n"
        "t1,REVERSED,2024-03-05 18:00:00,2024-03-05\n"
    )
    using = mapping(
        part={"path": "tx"},
        labels={
            "path": "labels", "completeness": "complete", "business_date": "day",
            "columns": {"transaction_id": "id", "is_fraud": "status", "label_time": "known"},
            "values": {"fraud": ["CHARGEBACK"], "genuine": ["REVERSED"]},
        },
    )  # fmt: skip
    delivery, dates = Delivery(str(tmp_path), "csv", using), Dates(DAY, DAY)
    table = labels_of(delivery)
    assert table is not None
    rows = rows_for_dates(read_source(spark, delivery, table, dates), table, using, dates)
    accepted = spark.createDataFrame([], LABELS.ddl)
    found = validated_labels(rows, accepted, using, late_days=7).where("accepted").collect()
    by_time = {str(row["label_time"]): row["is_fraud"] for row in found}
    assert by_time == {"2024-03-05 12:00:00": True, "2024-03-05 18:00:00": False}


# -- times of day --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "times"), [("2024-03-05", "iso"), ("05.03.2024", "dd.MM.yyyy")], ids=["iso", "pattern"]
)
def test_a_date_without_time_is_accepted_and_marked(
    spark: SparkSession, tmp_path: Path, text: str, times: str
) -> None:
    (tmp_path / "part.csv").write_text(f"{HEADER}\nt1,{text},c1,m1,12.30\n")
    row = validated(spark, tmp_path, mapping(format={"times": times}))["t1"]
    assert short(row) == ("2024-03-05 00:00:00", *GOOD[1:])
    assert row["has_time_of_day"] is False


def test_midnight_is_a_time_of_day(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "part.csv").write_text(f"{HEADER}\nt1,2024-03-05 00:00:00,c1,m1,12.30\n")
    assert validated(spark, tmp_path, mapping())["t1"]["has_time_of_day"] is True


def test_a_business_date_is_read_in_the_notation_of_times(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "part.csv").write_text(
        f"{HEADER},day\nt1,05.03.2024 10:30,c1,m1,12.30,05.03.2024\n"
        "t2,05.03.2024 10:30,c1,m1,12.30,2024-03-05\nt3,05.03.2024 10:30,c1,m1,12.30,06.03.2024\n"
        "t4,05.03.2024 10:30,c1,m1,12.30,tomorrow\n"
    )
    using = mapping(part={"business_date": "day"}, format={"times": "dd.MM.yyyy HH:mm"})
    rows = {name: short(row) for name, row in validated(spark, tmp_path, using).items()}
    assert rows == {"t1": GOOD, "t2": GOOD, "t4": ["unreadable_business_date"]}


# -- Parquet, Delta, JSON ------------------------------------------------------------------------


def table_of(times: pa.Array, **more: Any) -> pa.Table:
    number = len(times)
    columns = {
        "id": [f"t{nth}" for nth in range(1, number + 1)], "at": times, "card": ["c1"] * number,
        "shop": ["m1"] * number, "amount": [12.30] * number, **more,
    }  # fmt: skip
    return pa.table(columns)


NANOS = [1_709_634_600_123_456_789, -1, 1_709_634_600_000_000_000]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_times_in_nanoseconds_are_cut_to_microseconds(
    spark: SparkSession, tmp_path: Path, zone: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    times = pa.array(NANOS, pa.timestamp("ns", tz=zone))
    other = pa.array(NANOS, pa.timestamp("ns"))
    pq.write_table(table_of(times, seen=other), tmp_path / "part.parquet")
    using = mapping(part={"business_date": "day"}, zone="Europe/Paris")
    pq.write_table(
        table_of(times, seen=other, day=[DAY] * 3, number=NANOS), tmp_path / "part.parquet"
    )
    rows = validated(spark, tmp_path, using, "parquet")
    # Paris is an hour ahead of UTC in winter: a time without a zone is an hour earlier in UTC.
    hour = "10" if zone else "09"
    assert short(rows["t1"]) == (f"2024-03-05 {hour}:30:00.123456", *GOOD[1:])
    assert short(rows["t2"]) == ["too_late"]
    earlier = "1969-12-31 23:59:59.999999" if zone else "1969-12-31 22:59:59.999999"
    assert str(rows["t2"]["event_time"]) == earlier
    assert short(rows["t3"]) == (f"2024-03-05 {hour}:30:00", *GOOD[1:])
    # The quarantine shows the time, and a number that is none stays a number.
    raw = json.loads(rows["t2"]["raw"])
    assert raw["seen"].startswith("1969-12-31T23:59:59.999")
    assert raw["number"] == "-1"


def test_files_in_which_only_some_times_have_a_zone_are_refused(
    spark: SparkSession, tmp_path: Path
) -> None:
    from feature_defs.errors import UsageError

    for zone in (None, "UTC"):
        times = pa.array(NANOS, pa.timestamp("ns", tz=zone))
        pq.write_table(table_of(times), tmp_path / f"{zone}.parquet")
    with pytest.raises(UsageError, match="zone in some files"):
        validated(spark, tmp_path, mapping(), "parquet")


def write_delta(spark: SparkSession, path: Path, **properties: str) -> None:
    rows = [(f"t{nth}", AT, "c1", "m1", "12.30") for nth in range(1, 4)]
    frame = spark.createDataFrame(
        rows, "id string, at string, card string, shop string, amt string"
    )
    writer = frame.coalesce(1).write.format("delta")
    for name, value in properties.items():
        writer = writer.option(f"delta.{name}", value)
    writer.save(str(path))


def test_a_delta_source_with_deletion_vectors(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "source"
    write_delta(spark, path, enableDeletionVectors="true")
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id = 't2'")
    assert list(path.glob("deletion_vector*")), "the delete has rewritten the file"
    rows = validated(spark, path, mapping({"amount": "amt"}), "delta")
    assert {name: short(row) for name, row in rows.items()} == {"t1": GOOD, "t3": GOOD}


def test_a_delta_source_with_column_mapping(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "source"
    write_delta(spark, path, **{"columnMapping.mode": "name"})
    spark.sql(f"ALTER TABLE delta.`{path}` RENAME COLUMN amt TO `amount in EUR`")
    spark.sql(f"ALTER TABLE delta.`{path}` ADD COLUMN extra STRING")
    spark.sql(f"ALTER TABLE delta.`{path}` DROP COLUMN extra")
    rows = validated(spark, path, mapping({"amount": "amount in EUR"}), "delta")
    assert {name: short(row) for name, row in rows.items()} == dict.fromkeys(
        ("t1", "t2", "t3"), GOOD
    )


def test_json_lines_keep_every_digit_and_reach_into_objects(
    spark: SparkSession, tmp_path: Path
) -> None:
    lines = [
        '{"id": "t1", "at": "2024-03-05T10:30:00", "card": {"id": "c1"}, "shop": "m1", '
        '"amount": 123456789.120}',
        '{"id": "t2", "at": "2024-03-05T10:30:00", "card": {"id": 7}, "shop": "m1", "amount":12.3}',
        '{"id": "t3", "at": "2024-03-05T10:30:00", "card": {}, "shop": "m1", "amount": "12.30"}',
        '{"id": "t4", "at": "2024-03-05T10:3',
    ]
    with gzip.open(tmp_path / "part.jsonl.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    rows = validated(spark, tmp_path, mapping({"card_id": "card.id"}), "json")
    assert {name: short(row) for name, row in rows.items()} == {
        "t1": (GOOD[0], "c1", "m1", "123456789.120"),
        "t2": (GOOD[0], "7", "m1", "12.300"),
        "t3": ["missing_card_id"],
        None: rows[None]["reasons"],  # type: ignore[index]
    }
    assert "malformed_record" in rows[None]["reasons"]  # type: ignore[index]
    assert "2024-03-05T10:3" in rows[None]["raw"]  # type: ignore[index]


# -- folders -------------------------------------------------------------------------------------


def csv_day(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part.csv").write_text(f"{HEADER}\nt1,{AT},c1,m1,12.30\n")


def parquet_day(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table_of(pa.array([datetime(2024, 3, 5, 10, 30)])), folder / "part.parquet")


def json_day(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    row = {"id": "t1", "at": AT, "card": "c1", "shop": "m1", "amount": 12.30}
    (folder / "part.json").write_text(json.dumps(row) + "\n")


DAYS: dict[Format, Callable[[Path], None]] = {
    "csv": csv_day,
    "parquet": parquet_day,
    "json": json_day,
}


@pytest.mark.parametrize("file_format", DAYS)
def test_strangers_in_a_folder_are_not_read(
    spark: SparkSession, tmp_path: Path, file_format: Format
) -> None:
    DAYS[file_format](tmp_path)
    for name in ("README.txt", "checksum.md5", "part.csv.crc~".replace("csv", "dat"), "notes"):
        (tmp_path / name).write_text("not a row\n")
    rows = validated(spark, tmp_path, mapping(), file_format)
    assert {name: short(row) for name, row in rows.items()} == {"t1": GOOD}


@pytest.mark.parametrize("file_format", DAYS)
def test_folders_by_date_are_read_for_their_dates_only(
    spark: SparkSession, tmp_path: Path, file_format: Format
) -> None:
    DAYS[file_format](tmp_path / "day=2024-03-05")
    other = tmp_path / "day=2024-03-04"
    other.mkdir()
    # A damaged file of another night must not be opened.
    (other / f"part.{file_format}").write_bytes(b"\x00\xff damaged")
    using = mapping(part={"business_date": "day"})
    rows = validated(spark, tmp_path, using, file_format)
    assert {name: short(row) for name, row in rows.items()} == {"t1": GOOD}


def test_a_single_file_may_have_any_name(spark: SparkSession, tmp_path: Path) -> None:
    csv_day(tmp_path)
    file = (tmp_path / "part.csv").rename(tmp_path / "EXPORT.TXT")
    assert short(validated(spark, file, mapping())["t1"]) == GOOD
