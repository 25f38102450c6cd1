"""`fraud-scoring mapping`: what it proposes for a delivery, and what it leaves to a person."""

from __future__ import annotations

import json
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from feature_defs.errors import InputMissing, UsageError
from jobs.deliveries.mapping import Mapping
from jobs.mapping import run

CARD_NUMBER = "4111111111111111"


def proposed(folder: Path, file_format: str = "csv") -> tuple[str, dict[str, Any]]:
    text = run(str(folder), file_format, "bank")
    return text, tomllib.loads(text)


def write(folder: Path, lines: list[str], encoding: str = "utf-8") -> None:
    (folder / "part.csv").write_text("\n".join(lines) + "\n", encoding=encoding)


def german(num_rows: int = 40) -> list[str]:
    rows = [
        f"{nth};{nth % 28 + 1:02}.03.2024 10:{nth:02}:00;{CARD_NUMBER[:-2]}{nth % 7:02};"
        f"Bäcker {nth % 3};1.{nth:03},50;EUR;{'CONFIRMED' if nth % 9 == 0 else 'CLEARED'};{nth % 2}"
        for nth in range(num_rows)
    ]
    return ["Trans_Num;Buchungszeit Time;Card_No;Shop;Betrag;CCY;Fraud;MCC", *rows]


def test_a_german_export_is_read_with_its_notation(tmp_path: Path) -> None:
    write(tmp_path, german(), "cp1252")
    _, content = proposed(tmp_path)
    mapping = Mapping.model_validate(content)
    written = mapping.format
    assert (written.delimiter, written.decimal, written.thousands) == (";", ",", ".")
    assert (written.encoding, written.times) == ("cp1252", "dd.MM.yyyy HH:mm:ss")
    assert mapping.currency == "EUR"
    assert mapping.transactions.columns.model_dump() == {
        "transaction_id": "Trans_Num", "event_time": "Buchungszeit Time", "card_id": "Card_No",
        "merchant_id": "Shop", "amount": "Betrag", "currency": "CCY",
    }  # fmt: skip
    category = mapping.transactions.attributes["merchant_category"]
    assert (category.column, category.kind) == ("MCC", "categorical")
    assert mapping.labels is not None and mapping.labels.values is not None
    assert mapping.labels.values.fraud == ("CONFIRMED",)
    assert mapping.labels.values.genuine == ("CLEARED",)


def test_no_card_number_is_printed(tmp_path: Path) -> None:
    lines = [f"{nth},2024-03-01,{4111111111111000 + nth},s,1.5" for nth in range(100)]
    write(tmp_path, ["id,time,note,shop,amount", *lines])
    text, _ = proposed(tmp_path)
    assert "note" in text
    assert "41111" not in text


def test_what_cannot_be_told_is_left_empty_and_refused(tmp_path: Path) -> None:
    write(tmp_path, ["a,b", "1,x", "2,y"])
    text, content = proposed(tmp_path)
    assert content["currency"] == "" and content["transactions"]["columns"]["card_id"] == ""
    assert "FILL IN" in text
    with pytest.raises(ValidationError) as caught:
        Mapping.model_validate(content)
    fields = {".".join(map(str, error["loc"])) for error in caught.value.errors()}
    assert {"currency", "transactions.columns.card_id"} <= fields


def test_day_and_month_that_cannot_be_told_apart_are_left_to_a_person(tmp_path: Path) -> None:
    rows = [f"{nth},0{nth}/0{nth % 3 + 1}/2024 10:00:00,c,s,1.5" for nth in range(1, 9)]
    write(tmp_path, ["id,time,card,shop,amount", *rows])
    text, content = proposed(tmp_path)
    assert content["format"]["times"] == ""
    assert "dd/MM/yyyy HH:mm:ss, MM/dd/yyyy HH:mm:ss" in text


@pytest.mark.parametrize(
    ("value", "times"),
    [
        ("5.3.2024 9:07", "d.M.yyyy H:mm"),
        ("13.03.2024", "dd.MM.yyyy"),
        ("1709634600", "epoch_s"),
        ("1709634600123", "epoch_ms"),
        ("20240313101500", "yyyyMMddHHmmss"),
        ("3/25/2024 10:30 PM", "M/d/yyyy h:mm a"),
    ],
)
def test_the_notation_of_times_is_found(tmp_path: Path, value: str, times: str) -> None:
    rows = [f"{nth},{value},c,s,1.5" for nth in range(5)]
    write(tmp_path, ["id,time,card,shop,amount", *rows])
    _, content = proposed(tmp_path)
    assert content["format"]["times"] == times


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood(tmp_path: Path, encoding: str) -> None:
    write(tmp_path, ["id,time,card,shop,amount", "1,2024-03-01,c,s,1.5"], encoding)
    _, content = proposed(tmp_path)
    expected = {} if encoding == "utf-8-sig" else {"encoding": "utf-16"}
    assert content.get("format", {}) == expected
    assert content["transactions"]["columns"]["transaction_id"] == "id"


def test_parquet_in_folders_by_date_and_a_column_that_tells_the_truth(tmp_path: Path) -> None:
    folder = tmp_path / "day=2024-03-05"
    folder.mkdir()
    times = pa.array([datetime(2024, 3, 5, 10)] * 4, pa.timestamp("ns"))
    table = pa.table(
        {
            "id": [1, 2, 3, 4], "at": times, "card": ["c", "c", "d", "d"], "shop": ["s"] * 4,
            "amount": [1.5, 2.5, -1.5, 2.5], "fraud_scenario": ["a", "a", "b", "b"],
            "merch_lat": [1.25, None, 2.5, 3.5], "same": ["x"] * 4,
        }
    )  # fmt: skip
    pq.write_table(table, folder / "part.parquet")
    text, content = proposed(tmp_path, "parquet")
    assert content["transactions"]["business_date"] == "day"
    assert content["refunds"] == "negative"
    attributes = content["transactions"]["attributes"]
    assert attributes == {"merchant_latitude": {"column": "merch_lat", "kind": "numeric"}}
    assert "25.0% empty" in text
    assert "# fraud_scenario" in text and "# same" in text


def test_json_lines_with_objects(tmp_path: Path) -> None:
    rows = [
        {"id": nth, "time": "2024-03-01T10:00:00", "card": {"id": nth % 2}, "shop": "s",
         "amount": 1.5}
        for nth in range(4)
    ]  # fmt: skip
    (tmp_path / "part.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    _, content = proposed(tmp_path, "json")
    assert content["transactions"]["columns"]["card_id"] == "card.id"


def test_a_folder_without_files_of_the_format_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, ["id", "1"])
    with pytest.raises(InputMissing, match="no parquet files"):
        run(str(tmp_path), "parquet", "bank")


def test_a_file_of_another_format_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "part.parquet").write_text("not parquet")
    with pytest.raises(UsageError, match="cannot be read as parquet"):
        run(str(tmp_path), "parquet", "bank")
