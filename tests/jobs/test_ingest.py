"""Ingest, whole: real files in, the lake's tables out, and nothing where gate 1 says no."""

import csv
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from feature_defs.errors import GateFailed, InputMissing, NightHeld, UsageError
from feature_defs.labels import LabelPolicy
from jobs import ingest
from jobs.deliveries.delivery_history import recorded_delivery
from jobs.deliveries.label_policy import label_policy
from jobs.deliveries.late_arrivals import LateArrivalGuard
from jobs.deliveries.mapping import Mapping
from jobs.deliveries.readiness import check_ready
from jobs.deliveries.source import Delivery
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.nights import lease_nights
from jobs.lake.tables import LABELS, NIGHTS, QUARANTINE, RUNS, TRANSACTIONS
from tests.command_line import run_command_on
from tests.conftest import settings_for

pytestmark = pytest.mark.spark

DAY = date(2024, 3, 1)
NEXT = date(2024, 3, 2)
EMPTY = date(2024, 3, 3)
HOSTILE = '<img src=x onerror="alert(1)">,\n=cmd()'
DATA = (TRANSACTIONS, LABELS, QUARANTINE)


def mapping(**changes: Any) -> Mapping:
    content: dict[str, Any] = {
        "name": "bank",
        "currency": "EUR",
        "refunds": "refused",
        "line_breaks": "allowed",
        "transactions": {
            "path": "tx",
            "business_date": "day",
            "columns": {
                "transaction_id": "id", "event_time": "at", "card_id": "card",
                "merchant_id": "shop", "amount": "amount",
            },
            "attributes": {"risk": "numeric", "channel": "categorical"},
        },
        "labels": {
            "completeness": "frauds_only", "maturity_days": 30, "label_delay_days": 7,
            "columns": {"is_fraud": "fraud"},
        },
        "readiness": {"marker": "done/{business_date}"},
    }  # fmt: skip
    return Mapping.model_validate({**content, **changes})


def deliver(place: Path, day: date, num_rows: int, num_bad: int = 0, **changes: str) -> None:
    """Write a day as CSV with its marker; the first rows have amounts that are no numbers."""
    lines = ["id,at,card,shop,amount,day,risk,channel,fraud"]
    for nth in range(num_rows):
        amount = "12,5".replace(",", "_") if nth < num_bad else f"{nth}.25"
        row = {
            "id": f"{day}-{nth}", "at": f"{day} 10:{nth // 60:02}:{nth % 60:02}", "card": f"c{nth}",
            "shop": "m", "amount": amount, "day": str(day), "risk": "0.5",
            "channel": '"' + HOSTILE.replace('"', '""') + '"', "fraud": str(nth % 2), **changes,
        }  # fmt: skip
        lines.append(",".join(row.values()))
    for folder in ("tx", "done"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / "tx" / f"{day}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (place / "done" / str(day)).touch()


def run(lake: Lake, place: Path, dates: Dates, **changes: Any) -> None:
    delivery = Delivery(str(place), **{"format": "csv", "mapping": mapping(), **changes})
    check_ready(lake, delivery, dates)
    with lease_nights(lake, dates) as night:
        ingest.run(night, delivery)


def last_run(lake: Lake) -> Any:
    return lake.read(RUNS).orderBy(F.desc("started_at")).head()


def rows_of(lake: Lake, *days: date) -> dict[str, int]:
    return {
        table.name: lake.read(table).where(F.col("business_date").isin(list(days))).count()
        for table in DATA
    }


def staging_of(lake: Lake) -> list[Any]:
    place = Path(lake.uri) / "_staging"
    return list(place.iterdir()) if place.exists() else []


@pytest.fixture(scope="module")
def ingested(
    spark: SparkSession, empty_lake: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder with a delivery of 100 rows, five of them invalid, and a lake that has it."""
    folder = tmp_path_factory.mktemp("ingested")
    shutil.copytree(empty_lake, folder / "lake")
    deliver(folder / "source", DAY, 100, num_bad=5)
    run(Lake(spark, settings_for(folder / "lake")), folder / "source", Dates(DAY, DAY))
    return folder


@pytest.fixture
def ingested_copy(spark: SparkSession, ingested: Path, tmp_path: Path) -> tuple[Lake, Path]:
    """Return a copy of the lake of `ingested`, and one of its source."""
    shutil.copytree(ingested, tmp_path / "copy")
    return Lake(spark, settings_for(tmp_path / "copy" / "lake")), tmp_path / "copy" / "source"


INGESTED = {"transactions": 95, "labels": 95, "quarantine": 5}


def test_ingest_writes_rows_labels_quarantine_and_its_record(
    ingested_copy: tuple[Lake, Path], ingested: Path
) -> None:
    lake, _ = ingested_copy
    assert rows_of(lake, DAY) == INGESTED
    refused = lake.read(QUARANTINE).collect()
    assert {tuple(row["reasons"]) for row in refused} == {("unparsable_amount",)}
    raw = json.loads(refused[0]["raw"])
    assert raw["amount"] == "12_5" and raw["channel"] == HOSTILE
    source = ingested / "source"
    assert refused[0]["source"] == f"{source}/tx#transactions"
    accepted = lake.read(TRANSACTIONS)
    assert {row["channel"] for row in accepted.select("channel").collect()} == {HOSTILE}
    early = lake.read(LABELS).where("label_time < timestamp'2024-03-08 10:00:00Z'")
    assert early.isEmpty()

    record = last_run(lake)
    assert record["status"] == "done"
    assert {"read": 100, "accepted": 95, "quarantined": 5}.items() <= record["rows"].items()
    figures = json.loads(record["figures"])
    assert figures["quarantined_by_reason"] == {"unparsable_amount": 5}
    assert figures["by_night"] == {str(DAY): [100, 95, 5]}
    (gate,) = json.loads(record["gates"])
    statuses = {check["name"]: check["status"] for check in gate["checks"]}
    assert {statuses.pop("volume"), statuses.pop("volume_plausible")} == {"not applicable"}
    assert set(statuses.values()) == {"passed"}
    assert recorded_delivery(lake) == Delivery(str(source), "csv", mapping())
    assert label_policy(lake) == LabelPolicy(30)


def test_rerun_with_a_second_night_leaves_one_copy_of_each_row(
    ingested_copy: tuple[Lake, Path],
) -> None:
    lake, source = ingested_copy
    deliver(source, NEXT, 10)
    run(lake, source, Dates(DAY, NEXT))
    assert rows_of(lake, DAY) == INGESTED
    assert rows_of(lake, NEXT) == {"transactions": 10, "labels": 10, "quarantine": 0}

    # An empty night that is allowed replaces what was there.
    deliver(source, NEXT, 0)
    run(lake, source, Dates(NEXT, NEXT), allow_empty=True)
    assert rows_of(lake, NEXT) == {"transactions": 0, "labels": 0, "quarantine": 0}
    assert rows_of(lake, DAY) == INGESTED


def test_bad_and_empty_nights_stop_a_range_and_are_named(
    ingested_copy: tuple[Lake, Path],
) -> None:
    lake, source = ingested_copy
    before = lake.versions(DATA)
    deliver(source, NEXT, 10, num_bad=6)
    deliver(source, EMPTY, 0)
    with pytest.raises(GateFailed) as raised:
        run(lake, source, Dates(DAY, EMPTY))
    assert "2024-03-02: 6 of 10 rows (60%)" in str(raised.value)
    assert "2024-03-03: 0 rows" in str(raised.value)
    assert "2024-03-01" not in raised.value.found.split("quarantined_share")[1]
    assert lake.versions(DATA) == before
    assert staging_of(lake) == []
    record = last_run(lake)
    assert record["status"] == "failed" and "6 of 10" in record["gates"]


@pytest.mark.parametrize("ingested_before", [False, True])
def test_a_row_that_a_later_night_has_brought_is_not_accepted_again(
    make_lake: Callable[..., Lake], tmp_path: Path, ingested_before: bool
) -> None:
    lake, place = make_lake(), tmp_path / "source"
    deliver(place, DAY, 20, channel="web")
    whole = (place / "tx" / f"{DAY}.csv").read_text(encoding="utf-8")
    first = whole.splitlines()
    if ingested_before:
        lines = [*first[:1], *first[4:]]
        (place / "tx" / f"{DAY}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        run(lake, place, Dates(DAY, DAY))
        (place / "tx" / f"{DAY}.csv").write_text(whole, encoding="utf-8")
    deliver(place, NEXT, 20, channel="web")
    with (place / "tx" / f"{NEXT}.csv").open("a", encoding="utf-8") as file:
        # Late, and in the next day's delivery.
        file.writelines(f"{line.replace(f',{DAY},', f',{NEXT},')}\n" for line in first[1:4])
    for night in (NEXT, DAY):
        run(lake, place, Dates(night, night))
    ids = lake.read(TRANSACTIONS).select("transaction_id")
    assert ids.count() == ids.distinct().count() == 40
    assert rows_of(lake, DAY) == {"transactions": 17, "labels": 17, "quarantine": 3}
    assert rows_of(lake, NEXT)["transactions"] == 23


BANK = """
name = "bank"
currency = "EUR"
refunds = "refused"

[transactions]
path = "tx"
business_date = "day"
columns = { transaction_id = "id", event_time = "at", card_id = "card", merchant_id = "shop", \
amount = "amount" }

[labels]
completeness = "frauds_only"
maturity_days = 30
label_delay_days = 7
columns = { is_fraud = "fraud" }

[readiness]
marker = "done/{business_date}"
"""


def test_command_ingests_an_empty_night_that_is_allowed(
    spark: SparkSession, tmp_path: Path
) -> None:
    source, mapping_file = tmp_path / "source", tmp_path / "bank.toml"
    deliver(source, DAY, 0)
    mapping_file.write_text(BANK, encoding="utf-8")
    ended = run_command_on(
        spark, "ingest", "--lake", tmp_path / "lake", "--date", DAY, "--allow-empty",
        "--source", source, "--format", "csv", "--mapping", mapping_file,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


def test_an_ingest_beside_a_later_night_publishes_nothing(
    make_lake: Callable[..., Lake], tmp_path: Path
) -> None:
    lake, place = make_lake(), tmp_path / "source"
    deliver(place, DAY, 10)
    deliver(place, NEXT, 10)
    with ExitStack() as at_work:
        later = at_work.enter_context(lease_nights(lake, Dates(NEXT, NEXT)))
        with pytest.raises(NightHeld, match=f"Later nights were running .*: {NEXT}"):
            run(lake, place, Dates(DAY, DAY))
        with lease_nights(lake, Dates(DAY, DAY)) as night:
            seen = LateArrivalGuard.before(night)
            ingest.run(later, Delivery(str(place), "csv", mapping()))
            at_work.close()
            with pytest.raises(NightHeld, match=f"Later nights were running .*: {NEXT}"):
                seen.require_unchanged()
    assert rows_of(lake, DAY) == {"transactions": 0, "labels": 0, "quarantine": 0}
    run(lake, place, Dates(DAY, DAY))
    assert rows_of(lake, DAY)["transactions"] == 10


def test_a_lost_row_fails_the_gate(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = ingest.validated_transactions

    def losing(*arguments: Any) -> DataFrame:
        return judged(*arguments).where("transaction_id <> '2024-03-01-3'")

    monkeypatch.setattr(ingest, "validated_transactions", losing)
    deliver(tmp_path, DAY, 10)
    before = lake.versions(DATA)
    with pytest.raises(GateFailed, match="conservation: failed, 2024-03-01: 10 read, 9 accepted"):
        run(lake, tmp_path, Dates(DAY, DAY))
    assert lake.versions(DATA) == before


def test_what_is_missing_or_changed_is_all_listed_and_nothing_written(
    lake: Lake, tmp_path: Path
) -> None:
    (tmp_path / "tx").mkdir()
    lake.spark.sql(
        "select 1 as id, 2.5D as shop, true as at, array(1) as risk, current_date() as day"
    ).write.parquet(str(tmp_path / "tx" / "a"))
    delivery = Delivery(str(tmp_path), "parquet", mapping(readiness=None))
    before = lake.versions((*DATA, NIGHTS, RUNS))
    shutil.move(tmp_path / "tx" / "a", tmp_path / "moved")
    shutil.rmtree(tmp_path / "tx")
    shutil.move(tmp_path / "moved", tmp_path / "tx")
    with pytest.raises(UsageError) as raised:
        check_ready(lake, delivery, Dates(DAY, DAY))
    for name in ("card", "amount", "channel", "fraud"):
        assert f"transactions.{name}" in raised.value.found.split("changed types")[0]
    for name in ("shop is double", "at is boolean", "risk is array<int>"):
        assert f"transactions.{name}" in raised.value.found.split("changed types")[1]
    assert lake.versions((*DATA, NIGHTS, RUNS)) == before


def test_a_delivery_that_is_not_there_or_not_complete(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="does not exist"):
        run(lake, tmp_path / "nowhere", Dates(DAY, DAY))
    empty = tmp_path / "_empty"
    for hidden in ("_temporary/part.csv", ".part.csv.crc", "_SUCCESS"):
        (empty / "tx" / hidden).parent.mkdir(parents=True, exist_ok=True)
        (empty / "tx" / hidden).touch()
    with pytest.raises(InputMissing, match="has no files"):
        run(lake, empty, Dates(DAY, DAY))
    (empty / "tx" / "day=2024-03-01").mkdir()
    (empty / "tx" / "day=2024-03-01" / "part.csv").write_text("id\n")
    with pytest.raises(InputMissing, match="not marked complete"):
        run(lake, empty, Dates(DAY, DAY))
    deliver(tmp_path, DAY, 1)
    with pytest.raises(InputMissing, match="not marked complete for 2024-03-02, 2024-03-03"):
        run(lake, tmp_path, Dates(DAY, date(2024, 3, 3)))
    with pytest.raises(UsageError, match="Not a Delta table"):
        delivery = Delivery(str(tmp_path), "delta", mapping())
        check_ready(lake, delivery, Dates(DAY, DAY))
    with pytest.raises(InputMissing):
        recorded_delivery(lake)


def test_pseudonyms_need_a_key_which_is_written_nowhere(
    make_lake: Callable[..., Lake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, secret = tmp_path / "source", "a-long-enough-secret"
    deliver(place, DAY, 4, num_bad=1, card="4111111111111111")
    using = mapping(pseudonymise=["transaction_id", "card_id"])
    with pytest.raises(UsageError, match="FRAUD_PSEUDONYM_KEY"):
        run(make_lake("without"), place, Dates(DAY, DAY), mapping=using)
    monkeypatch.setenv("FRAUD_PSEUDONYM_KEY", secret)
    lake = make_lake("with", max_quarantined_share=0.5)
    run(lake, place, Dates(DAY, DAY), mapping=using)
    assert rows_of(lake, DAY) == {"transactions": 3, "labels": 3, "quarantine": 1}
    joined = lake.read(LABELS).join(lake.read(TRANSACTIONS), "transaction_id")
    assert joined.count() == 3
    texts = [str(lake.read(table).collect()) for table in (*DATA, RUNS, NIGHTS)]
    texts += [
        path.read_bytes().decode("latin-1") for path in Path(lake.uri).rglob("*") if path.is_file()
    ]
    for kept_out in (secret, "4111111111111111", "2024-03-01-1"):
        assert not any(kept_out in text for text in texts)


def test_a_damaged_delivery_fails_gate_1(lake: Lake, tmp_path: Path) -> None:
    source = mapping(readiness=None, labels=None)
    frame = lake.spark.sql(
        "select string(id) as id, timestamp'2024-03-01 10:00:00' as at, 'c' as card, 'm' as shop,"
        " 1.5D as amount, 0.5D as risk, 'web' as channel, date'2024-03-01' as day from range(2000)"
    )
    frame.repartition(2).write.parquet(str(tmp_path / "tx"))
    damaged = sorted((tmp_path / "tx").glob("*.parquet"))[1]
    content = bytearray(damaged.read_bytes())
    # The footer stays whole: only reading the rows shows it.
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    damaged.write_bytes(bytes(content))
    for crc in (tmp_path / "tx").glob(".*.crc"):
        crc.unlink()
    delivery = Delivery(str(tmp_path), "parquet", source)
    check_ready(lake, delivery, Dates(DAY, DAY))
    before = lake.versions(DATA)
    with (
        pytest.raises(GateFailed, match="delivery_readable: crashed"),
        lease_nights(lake, Dates(DAY, DAY)) as night,
    ):
        ingest.run(night, delivery)
    assert lake.versions(DATA) == before
    damaged.write_bytes(b"no parquet at all")
    check_ready(lake, delivery, Dates(DAY, DAY))


def test_a_quote_that_is_not_closed_swallows_no_rows(lake: Lake, tmp_path: Path) -> None:
    deliver(tmp_path, DAY, num_rows=10, channel="web")
    place = tmp_path / "tx" / f"{DAY}.csv"
    lines = place.read_text(encoding="utf-8").split("\n")
    lines.insert(4, f'stray,{DAY} 10:00:00,c,m,1,{DAY},0.5,"never closed,0')
    place.write_text("\n".join(lines), encoding="utf-8")
    before = lake.versions(DATA)
    with pytest.raises(GateFailed, match="no_swallowed_rows"):
        run(lake, tmp_path, Dates(DAY, DAY))
    assert lake.versions(DATA) == before


def test_rows_that_stray_quotes_have_joined_stop_the_night(lake: Lake, tmp_path: Path) -> None:
    deliver(tmp_path, DAY, num_rows=10, channel="web")
    place = tmp_path / "tx" / f"{DAY}.csv"
    lines = place.read_text(encoding="utf-8").split("\n")
    for nth, text in ((4, '"never closed'), (7, '"closed here"')):
        lines[nth] = f"joined-{nth},{DAY} 10:00:00,c,m,1,{DAY},0.5,web,0"
        lines[nth] = lines[nth].replace("web,0", f"web,{text}")
    place.write_text("\n".join(lines), encoding="utf-8")
    before = lake.versions(DATA)
    strict = mapping(line_breaks="refused")
    with pytest.raises(GateFailed, match=r"no_swallowed_rows.*1 records.*line_breaks"):
        run(lake, tmp_path, Dates(DAY, DAY), mapping=strict)
    assert lake.versions(DATA) == before


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32", "cp037"])
def test_a_delivery_in_another_encoding_is_refused(
    lake: Lake, tmp_path: Path, encoding: str
) -> None:
    deliver(tmp_path, DAY, num_rows=2)
    place = tmp_path / "tx" / f"{DAY}.csv"
    place.write_bytes(place.read_text(encoding="utf-8").encode(encoding))
    delivery = Delivery(str(tmp_path), "csv", mapping())
    with pytest.raises(UsageError, match="missing columns"):
        check_ready(lake, delivery, Dates(DAY, DAY))


def test_a_column_that_is_named_twice_is_told(lake: Lake, tmp_path: Path) -> None:
    deliver(tmp_path, DAY, num_rows=2)
    place = tmp_path / "tx" / f"{DAY}.csv"
    place.write_text(place.read_text(encoding="utf-8").replace("risk,", "Amount,", 1))
    delivery = Delivery(str(tmp_path), "csv", mapping())
    with pytest.raises(UsageError, match=f"repeats a column: amount in {place}"):
        check_ready(lake, delivery, Dates(DAY, DAY))


def test_a_place_with_signs_of_a_pattern_is_that_place(lake: Lake, tmp_path: Path) -> None:
    place, other = tmp_path / "bank[12]{a,b}*?", tmp_path / "bank1a"
    for bank, num_rows in ((place, 3), (other, 5)):
        deliver(bank, DAY, num_rows)
        with (bank / "tx" / f"{DAY}.csv").open(encoding="utf-8", newline="") as file:
            rows = lake.spark.createDataFrame(list(csv.DictReader(file)))
        rows.write.partitionBy("day").parquet(f"{bank}/rows")
    with pytest.raises(UsageError, match=r"1 CSV files.*deliver Parquet"):
        run(lake, place, Dates(DAY, DAY))
    for bank in (place, other):
        shutil.rmtree(bank / "tx")
        shutil.move(bank / "rows", bank / "tx")
    run(lake, place, Dates(DAY, DAY), format="parquet")
    assert rows_of(lake, DAY) == {"transactions": 3, "labels": 3, "quarantine": 0}


def test_files_that_name_other_columns_are_named(lake: Lake, tmp_path: Path) -> None:
    for day in (DAY, NEXT, EMPTY):
        deliver(tmp_path, day, num_rows=2)
    first, second, third = sorted((tmp_path / "tx").iterdir())
    (tmp_path / "tx" / "nothing.csv").touch()
    second.write_bytes(b"\xef\xbb\xbf" + second.read_bytes().replace(b"\n", b"\r\n"))
    delivery = Delivery(str(tmp_path), "csv", mapping())
    check_ready(lake, delivery, Dates(DAY, DAY))
    text = third.read_text(encoding="utf-8")
    for wrong in (text.replace("id,at", "at,id"), text.split("\n", 1)[1]):
        third.write_text(wrong, encoding="utf-8")
        with pytest.raises(UsageError, match="1 of the 3 files") as raised:
            check_ready(lake, delivery, Dates(DAY, DAY))
        assert str(third) in str(raised.value) and str(first) not in str(raised.value)
        assert "2024-03-03-1" not in str(raised.value)
