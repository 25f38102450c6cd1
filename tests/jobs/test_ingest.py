"""Ingest from delivered files to tables; a delivery that fails gate 1 changes no table."""

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
from jobs.deliveries.delivery_history import label_policy, recorded_delivery
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


def deliver(source: Path, day: date, num_rows: int, num_bad: int = 0, **changes: str) -> None:
    """Write a day as CSV with its marker; the first `num_bad` rows have an invalid amount."""
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
        (source / folder).mkdir(parents=True, exist_ok=True)
    (source / "tx" / f"{day}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (source / "done" / str(day)).touch()


def run(lake: Lake, source: Path, dates: Dates, **changes: Any) -> None:
    delivery = Delivery(str(source), **{"format": "csv", "mapping": mapping(), **changes})
    check_ready(lake, delivery, dates)
    with lease_nights(lake, dates) as night:
        ingest.run(night, delivery)


def last_run(lake: Lake) -> Any:
    return lake.read(RUNS).orderBy(F.desc("started_at")).head()


def count_rows(lake: Lake, *days: date) -> dict[str, int]:
    return {
        table.name: lake.read(table).where(F.col("business_date").isin(list(days))).count()
        for table in DATA
    }


def staged_folders(lake: Lake) -> list[Any]:
    path = Path(lake.uri) / "_staging"
    return list(path.iterdir()) if path.exists() else []


@pytest.fixture(scope="module")
def ingested(
    spark: SparkSession, empty_lake: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a folder with a delivery of 100 rows, five of them invalid, and a lake with it."""
    folder = tmp_path_factory.mktemp("ingested")
    shutil.copytree(empty_lake, folder / "lake")
    deliver(folder / "source", DAY, 100, num_bad=5)
    run(Lake(spark, settings_for(folder / "lake")), folder / "source", Dates(DAY, DAY))
    return folder


@pytest.fixture
def ingested_copy(spark: SparkSession, ingested: Path, tmp_path: Path) -> tuple[Lake, Path]:
    """Return copies of the lake and of the source of `ingested`."""
    shutil.copytree(ingested, tmp_path / "copy")
    return Lake(spark, settings_for(tmp_path / "copy" / "lake")), tmp_path / "copy" / "source"


INGESTED = {"transactions": 95, "labels": 95, "quarantine": 5}


def test_ingest_writes_rows_labels_quarantine_and_its_record(
    ingested_copy: tuple[Lake, Path], ingested: Path
) -> None:
    lake, _ = ingested_copy
    assert count_rows(lake, DAY) == INGESTED
    quarantined = lake.read(QUARANTINE).collect()
    assert {tuple(row["reasons"]) for row in quarantined} == {("unparsable_amount",)}
    raw = json.loads(quarantined[0]["raw"])
    assert raw["amount"] == "12_5" and raw["channel"] == HOSTILE
    source = ingested / "source"
    assert quarantined[0]["source"] == f"{source}/tx#transactions"
    accepted = lake.read(TRANSACTIONS)
    assert {row["channel"] for row in accepted.select("channel").collect()} == {HOSTILE}
    early_labels = lake.read(LABELS).where("label_time < timestamp'2024-03-08 10:00:00Z'")
    assert early_labels.isEmpty()

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


def test_ingest_rerun_with_second_night_keeps_one_copy_of_each_row(
    ingested_copy: tuple[Lake, Path],
) -> None:
    lake, source = ingested_copy
    deliver(source, NEXT, 10)
    run(lake, source, Dates(DAY, NEXT))
    assert count_rows(lake, DAY) == INGESTED
    assert count_rows(lake, NEXT) == {"transactions": 10, "labels": 10, "quarantine": 0}

    # With `allow_empty`, an empty delivery replaces the rows of an earlier one.
    deliver(source, NEXT, 0)
    run(lake, source, Dates(NEXT, NEXT), allow_empty=True)
    assert count_rows(lake, NEXT) == {"transactions": 0, "labels": 0, "quarantine": 0}
    assert count_rows(lake, DAY) == INGESTED


def test_ingest_range_with_invalid_and_empty_nights_fails_gate_1(
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
    assert staged_folders(lake) == []
    record = last_run(lake)
    assert record["status"] == "failed" and "6 of 10" in record["gates"]


# Slow: two or three nights are ingested.
@pytest.mark.parametrize("ingested_before", [False, True])
def test_row_accepted_in_a_later_night_is_quarantined(
    make_lake: Callable[..., Lake], tmp_path: Path, ingested_before: bool
) -> None:
    lake, source = make_lake(), tmp_path / "source"
    deliver(source, DAY, 20, channel="web")
    all_rows = (source / "tx" / f"{DAY}.csv").read_text(encoding="utf-8")
    lines = all_rows.splitlines()
    if ingested_before:
        kept = [*lines[:1], *lines[4:]]
        (source / "tx" / f"{DAY}.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
        run(lake, source, Dates(DAY, DAY))
        (source / "tx" / f"{DAY}.csv").write_text(all_rows, encoding="utf-8")
    deliver(source, NEXT, 20, channel="web")
    with (source / "tx" / f"{NEXT}.csv").open("a", encoding="utf-8") as file:
        # Three rows of the first day arrive late, in the delivery of the next day.
        file.writelines(f"{line.replace(f',{DAY},', f',{NEXT},')}\n" for line in lines[1:4])
    for night in (NEXT, DAY):
        run(lake, source, Dates(night, night))
    ids = lake.read(TRANSACTIONS).select("transaction_id")
    assert ids.count() == ids.distinct().count() == 40
    assert count_rows(lake, DAY) == {"transactions": 17, "labels": 17, "quarantine": 3}
    assert count_rows(lake, NEXT)["transactions"] == 23


MAPPING_FILE = """
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


def test_ingest_command_with_allow_empty_accepts_an_empty_night(
    spark: SparkSession, tmp_path: Path
) -> None:
    source, mapping_file = tmp_path / "source", tmp_path / "bank.toml"
    deliver(source, DAY, 0)
    mapping_file.write_text(MAPPING_FILE, encoding="utf-8")
    completed = run_command_on(
        spark, "ingest", "--lake", tmp_path / "lake", "--date", DAY, "--allow-empty",
        "--source", source, "--format", "csv", "--mapping", mapping_file,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr


# Slow: four ingests, two of which are refused at their end.
def test_ingest_while_a_later_night_runs_publishes_nothing(
    make_lake: Callable[..., Lake], tmp_path: Path
) -> None:
    lake, source = make_lake(), tmp_path / "source"
    deliver(source, DAY, 10)
    deliver(source, NEXT, 10)
    with ExitStack() as leases:
        later = leases.enter_context(lease_nights(lake, Dates(NEXT, NEXT)))
        with pytest.raises(NightHeld, match=f"Later nights were running .*: {NEXT}"):
            run(lake, source, Dates(DAY, DAY))
        with lease_nights(lake, Dates(DAY, DAY)) as night:
            guard = LateArrivalGuard.before(night)
            ingest.run(later, Delivery(str(source), "csv", mapping()))
            leases.close()
            with pytest.raises(NightHeld, match=f"Later nights were running .*: {NEXT}"):
                guard.require_unchanged()
    assert count_rows(lake, DAY) == {"transactions": 0, "labels": 0, "quarantine": 0}
    run(lake, source, Dates(DAY, DAY))
    assert count_rows(lake, DAY)["transactions"] == 10


def test_lost_row_fails_gate_1(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validate = ingest.validated_transactions

    def validate_and_lose_a_row(*arguments: Any) -> DataFrame:
        return validate(*arguments).where("transaction_id <> '2024-03-01-3'")

    monkeypatch.setattr(ingest, "validated_transactions", validate_and_lose_a_row)
    deliver(tmp_path, DAY, 10)
    before = lake.versions(DATA)
    with pytest.raises(GateFailed, match="conservation: failed, 2024-03-01: 10 read, 9 accepted"):
        run(lake, tmp_path, Dates(DAY, DAY))
    assert lake.versions(DATA) == before


def test_check_ready_lists_all_missing_and_changed_columns(lake: Lake, tmp_path: Path) -> None:
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


def test_missing_or_incomplete_delivery_is_refused(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(InputMissing, match="does not exist"):
        run(lake, tmp_path / "nowhere", Dates(DAY, DAY))
    empty = tmp_path / "_empty"
    for hidden in ("_temporary/part.csv", ".part.csv.crc", "_SUCCESS"):
        (empty / "tx" / hidden).parent.mkdir(parents=True, exist_ok=True)
        (empty / "tx" / hidden).touch()
    with pytest.raises(InputMissing, match="has no csv files"):
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


def test_pseudonymised_ingest_requires_a_key_and_stores_no_raw_ids(
    make_lake: Callable[..., Lake], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, secret = tmp_path / "source", "a-long-enough-secret"
    deliver(source, DAY, 4, num_bad=1, card="4111111111111111")
    pseudonymised = mapping(pseudonymise=["transaction_id", "card_id"])
    with pytest.raises(UsageError, match="FRAUD_PSEUDONYM_KEY"):
        run(make_lake("without"), source, Dates(DAY, DAY), mapping=pseudonymised)
    monkeypatch.setenv("FRAUD_PSEUDONYM_KEY", secret)
    lake = make_lake("with", max_quarantined_share=0.5)
    run(lake, source, Dates(DAY, DAY), mapping=pseudonymised)
    assert count_rows(lake, DAY) == {"transactions": 3, "labels": 3, "quarantine": 1}
    joined = lake.read(LABELS).join(lake.read(TRANSACTIONS), "transaction_id")
    assert joined.count() == 3
    texts = [str(lake.read(table).collect()) for table in (*DATA, RUNS, NIGHTS)]
    texts += [
        path.read_bytes().decode("latin-1") for path in Path(lake.uri).rglob("*") if path.is_file()
    ]
    for private in (secret, "4111111111111111", "2024-03-01-1"):
        assert not any(private in text for text in texts)


def test_damaged_delivery_fails_gate_1(lake: Lake, tmp_path: Path) -> None:
    frame = lake.spark.sql(
        "select string(id) as id, timestamp'2024-03-01 10:00:00' as at, 'c' as card, 'm' as shop,"
        " 1.5D as amount, 0.5D as risk, 'web' as channel, date'2024-03-01' as day from range(2000)"
    )
    frame.repartition(2).write.parquet(str(tmp_path / "tx"))
    damaged = sorted((tmp_path / "tx").glob("*.parquet"))[1]
    content = bytearray(damaged.read_bytes())
    # The footer stays valid, so only reading the rows shows the damage.
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    damaged.write_bytes(bytes(content))
    for crc in (tmp_path / "tx").glob(".*.crc"):
        crc.unlink()
    delivery = Delivery(str(tmp_path), "parquet", mapping(readiness=None, labels=None))
    check_ready(lake, delivery, Dates(DAY, DAY))
    before = lake.versions(DATA)
    with (
        pytest.raises(GateFailed, match="delivery_readable: crashed"),
        lease_nights(lake, Dates(DAY, DAY)) as night,
    ):
        ingest.run(night, delivery)
    assert lake.versions(DATA) == before
    damaged.write_bytes(b"not Parquet")
    check_ready(lake, delivery, Dates(DAY, DAY))


def test_unclosed_quote_fails_gate_1(lake: Lake, tmp_path: Path) -> None:
    deliver(tmp_path, DAY, num_rows=10, channel="web")
    path = tmp_path / "tx" / f"{DAY}.csv"
    lines = path.read_text(encoding="utf-8").split("\n")
    lines.insert(4, f'stray,{DAY} 10:00:00,c,m,1,{DAY},0.5,"never closed,0')
    path.write_text("\n".join(lines), encoding="utf-8")
    before = lake.versions(DATA)
    with pytest.raises(GateFailed, match="no_swallowed_rows"):
        run(lake, tmp_path, Dates(DAY, DAY))
    assert lake.versions(DATA) == before


def test_rows_joined_by_stray_quotes_fail_gate_1(lake: Lake, tmp_path: Path) -> None:
    deliver(tmp_path, DAY, num_rows=10, channel="web")
    path = tmp_path / "tx" / f"{DAY}.csv"
    lines = path.read_text(encoding="utf-8").split("\n")
    for nth, text in ((4, '"never closed'), (7, '"closed here"')):
        lines[nth] = f"joined-{nth},{DAY} 10:00:00,c,m,1,{DAY},0.5,web,0"
        lines[nth] = lines[nth].replace("web,0", f"web,{text}")
    path.write_text("\n".join(lines), encoding="utf-8")
    before = lake.versions(DATA)
    strict = mapping(line_breaks="refused")
    with pytest.raises(GateFailed, match=r"no_swallowed_rows.*1 records.*line_breaks"):
        run(lake, tmp_path, Dates(DAY, DAY), mapping=strict)
    assert lake.versions(DATA) == before


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32", "cp037"])
def test_delivery_in_another_encoding_is_refused(lake: Lake, tmp_path: Path, encoding: str) -> None:
    deliver(tmp_path, DAY, num_rows=2)
    path = tmp_path / "tx" / f"{DAY}.csv"
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    delivery = Delivery(str(tmp_path), "csv", mapping())
    marked = encoding == "utf-32"  # Python writes a byte order mark.
    with pytest.raises(UsageError, match="begin like UTF-32" if marked else "missing columns"):
        check_ready(lake, delivery, Dates(DAY, DAY))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda text: text.replace(",", ";").encode(), 'set `delimiter = ";"`'),
        (lambda text: text.replace(",", "\t").encode(), r'set `delimiter = "\t"`'),
        (lambda text: text.encode("utf-16"), 'set `encoding = "utf-16"`'),
        (lambda text: text.replace("card", "CARD ").encode(), "there is 'CARD '"),
    ],
    ids=["semicolon", "tab", "utf-16", "another case"],
)
def test_an_unreadable_delivery_names_the_key_of_the_mapping_that_helps(
    lake: Lake, tmp_path: Path, change: Callable[[str], bytes], key: str
) -> None:
    deliver(tmp_path, DAY, num_rows=2, channel="x")
    path = tmp_path / "tx" / f"{DAY}.csv"
    path.write_bytes(change(path.read_text(encoding="utf-8")))
    with pytest.raises(UsageError) as raised:
        check_ready(lake, Delivery(str(tmp_path), "csv", mapping()), Dates(DAY, DAY))
    assert key in str(raised.value)


def test_numbers_as_times_name_the_key_of_the_mapping_that_helps(
    lake: Lake, tmp_path: Path
) -> None:
    lake.spark.sql(
        "select 'a' as id, 1709634600L as at, 'c' as card, 's' as shop, 1.5D as amount, 0D as risk,"
        " 'x' as channel, 0 as fraud, current_date() as day"
    ).write.parquet(str(tmp_path / "tx"))
    delivery = Delivery(str(tmp_path), "parquet", mapping(readiness=None))
    with pytest.raises(UsageError, match='set `times = "epoch_s"`'):
        check_ready(lake, delivery, Dates(DAY, DAY))


def test_files_of_another_format_are_named_not_read(
    lake: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deliver(tmp_path, DAY, num_rows=2)
    (tmp_path / "tx" / "checksums.md5").write_text("of another format")
    with caplog.at_level("INFO"):
        check_ready(lake, Delivery(str(tmp_path), "csv", mapping()), Dates(DAY, DAY))
    assert "1 files of another format are not read" in caplog.text


def test_dates_without_time_warn_and_are_marked_in_the_table(lake: Lake, tmp_path: Path) -> None:
    deliver(tmp_path, DAY, num_rows=3, at=str(DAY))
    deliver(tmp_path, NEXT, num_rows=2)
    for day in (DAY, NEXT):
        run(lake, tmp_path, Dates(day, day))
    rows = lake.read(TRANSACTIONS).select("business_date", "has_time_of_day").collect()
    marks = {(row["business_date"], row["has_time_of_day"]) for row in rows}
    assert marks == {(DAY, False), (NEXT, None)}
    records = lake.read(RUNS).where("job = 'ingest'").orderBy("first_date").collect()
    of_night = [
        check["status"]
        for record in records
        for gate in json.loads(record["gates"])
        for check in gate["checks"]
        if check["name"] == "times_of_day"
    ]
    assert of_night == ["failed", "passed"]


def test_repeated_column_name_is_refused(lake: Lake, tmp_path: Path) -> None:
    deliver(tmp_path, DAY, num_rows=2)
    path = tmp_path / "tx" / f"{DAY}.csv"
    path.write_text(path.read_text(encoding="utf-8").replace("risk,", "Amount,", 1))
    delivery = Delivery(str(tmp_path), "csv", mapping())
    with pytest.raises(UsageError, match=f"repeats a column: amount in {path}"):
        check_ready(lake, delivery, Dates(DAY, DAY))


def test_source_path_with_glob_characters_is_read_literally(lake: Lake, tmp_path: Path) -> None:
    source, other = tmp_path / "bank[12]{a,b}*?", tmp_path / "bank1a"
    for bank, num_rows in ((source, 3), (other, 5)):
        deliver(bank, DAY, num_rows)
        with (bank / "tx" / f"{DAY}.csv").open(encoding="utf-8", newline="") as file:
            rows = lake.spark.createDataFrame(list(csv.DictReader(file)))
        rows.write.partitionBy("day").parquet(f"{bank}/rows")
    with pytest.raises(UsageError, match=r"1 CSV files.*deliver Parquet"):
        run(lake, source, Dates(DAY, DAY))
    for bank in (source, other):
        shutil.rmtree(bank / "tx")
        shutil.move(bank / "rows", bank / "tx")
    run(lake, source, Dates(DAY, DAY), format="parquet")
    assert count_rows(lake, DAY) == {"transactions": 3, "labels": 3, "quarantine": 0}


def test_check_ready_names_files_with_other_columns(lake: Lake, tmp_path: Path) -> None:
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
