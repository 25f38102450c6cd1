"""Secrets and raw ids do not leak; hostile names, paths and texts are refused or escaped."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from feature_defs.errors import InputMissing, UsageError
from jobs.runtime.logs import escape_control_characters
from tests.quick_spark import quick_environment

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

ROOT = Path(__file__).parents[2]
KEY = "marker-of-the-key-0123456789"
CARD = "4111111111111111"
CONTROL_TEXT = "\x1b[2J\x1b]0;owned\x07\u202e\u2066\x9b31m\r\x08"
DAY = "2024-03-01"
MAPPING = """
name = "secretive"
currency = "EUR"
refunds = "refused"
pseudonymise = ["transaction_id", "card_id"]
[transactions]
business_date = "day"
[transactions.columns]
transaction_id = "id"
event_time = "at"
card_id = "card"
merchant_id = "shop"
amount = "amount"
[transactions.attributes]
risk = "numeric"
"""
HEADER = "id,at,card,shop,amount,day,risk\n"


def row(name: str, **changes: str) -> str:
    values = {
        "id": f"marker-id-{name}", "at": f"{DAY} 10:00:00", "card": f"marker-card-{name}",
        "shop": "m", "amount": "1", "day": DAY, "risk": "0.5", **changes,
    }  # fmt: skip
    return ",".join(values.values()) + "\n"


def ingest(folder: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in its own process, with Spark's event log: the data of Spark's web UI."""
    (folder / "events").mkdir(exist_ok=True)
    (folder / "bank.toml").write_text(MAPPING, encoding="utf-8")
    settings = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"{folder}/events",
        "spark.local.dir": f"{folder}/local",
    }
    return subprocess.run(
        [
            sys.executable, "-m", "jobs", "ingest", "--lake", str(folder / "lake"), "--source",
            str(source), "--format", "csv", "--mapping", str(folder / "bank.toml"), "--date", DAY,
            "--debug", "--log-format", "text",
        ],
        env={
            **os.environ, "FRAUD_PSEUDONYM_KEY": KEY, **quick_environment(**settings),
            "FRAUD_MAX_QUARANTINED_SHARE": "1",
        },
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def find_leaks(folder: Path, *completed: subprocess.CompletedProcess[str]) -> list[str]:
    """Return where the key, a raw id or a card number occurs in outputs and files."""
    secrets = (KEY, "marker-id", "marker-card", CARD)
    texts = {f"output {n}": run.stdout + run.stderr for n, run in enumerate(completed)}
    for file in folder.rglob("*"):
        if file.is_file() and folder / "source" not in file.parents:
            texts[str(file.relative_to(folder))] = file.read_bytes().decode("latin-1")
    assert any(name.startswith("events/") for name in texts)
    assert any(name.startswith("lake/") for name in texts)
    return [
        f"{secret} in {name}"
        for name, text in texts.items()
        for secret in secrets
        if secret in text
    ]


# Slow: three commands in processes of their own: what a process leaves behind is the point.
@pytest.mark.spark
@pytest.mark.slow
def test_ingest_leaks_neither_key_nor_raw_ids(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "good").mkdir(parents=True)
    (source / "bad").mkdir()
    good = [
        row("fine"), row("refused", amount="x"), row("twice"), row("twice"), row("early", at="?"),
        row("conflict"), row("conflict", amount="2"), row("number", id=CARD, card=CARD, risk="?"),
        "marker-id-short,x\n", row("long", risk="0.5,marker-card-more"), row("no day", day="?"),
    ]  # fmt: skip
    (source / "good" / "part.csv").write_text(HEADER + "".join(good), encoding="utf-8")
    accepted = ingest(tmp_path, source / "good")
    assert accepted.returncode == 0, accepted.stderr
    joined = [row("open", risk='"'), row("swallowed"), row("closed", risk='0"')]
    (source / "bad" / "part.csv").write_text(HEADER + "".join(joined), encoding="utf-8")
    refused = ingest(tmp_path, source / "bad")
    assert refused.returncode == 3 and "no_swallowed_rows" in refused.stderr, refused.stderr
    # In a file without a header, a data row is read as column names.
    (source / "bad" / "part.csv").write_text(HEADER + row("fine"), encoding="utf-8")
    (source / "bad" / "zzz.csv").write_text(row("headless"), encoding="utf-8")
    headless = ingest(tmp_path, source / "bad")
    assert headless.returncode == 2 and "or no header" in headless.stderr, headless.stderr
    assert find_leaks(tmp_path, accepted, refused, headless) == []


def test_escape_control_characters_shows_their_codes() -> None:
    assert escape_control_characters("Café 卡 7\u00b0") == "Café 卡 7\u00b0"
    shown = escape_control_characters(f"a{CONTROL_TEXT}b")
    assert shown.isprintable() and shown.startswith("a\\x1b[2J") and shown.endswith("\\x08b")


def test_explain_shows_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    from pyspark.sql import Row

    from jobs import explain
    from jobs.lineage.audit import Recomputed
    from jobs.lineage.explanation import Explanation
    from jobs.models.executor_functions import FeatureContribution

    moment = datetime(2024, 3, 1, tzinfo=UTC)
    event = Row(
        event_time=moment, transaction_id=f"t{CONTROL_TEXT}",
        merchant_id=f"[red]{CONTROL_TEXT}", amount=Decimal(1),
    )  # fmt: skip
    part = FeatureContribution("transaction_amount", 1.0, 2.0, 0.5, 0.5)
    explain.show(
        Explanation(
            transaction_id=f"t{CONTROL_TEXT}", business_date=date(2024, 3, 1), event_time=moment,
            card_id=f"[bold]{CONTROL_TEXT}", merchant_id=CONTROL_TEXT, amount=Decimal(1),
            score=0.5, reconstruction_error=0.5, ranking_value=0.5, recomputed=Recomputed(0.5, 0.5),
            model_version="1", run_id="r", versions={}, contributions=(part,), recent=(event,),
        )
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert "\\x1b[2J" in shown and "[bold]" in shown and "[red]" in shown
    unprintable = [character for character in CONTROL_TEXT if not character.isprintable()]
    assert not any(character in shown.replace("\n", "") for character in unprintable)


def test_command_error_shows_no_control_characters() -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "jobs", "features", "--lake", "x", "--date", f"d{CONTROL_TEXT}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert completed.returncode == 2 and "is not a valid date" in completed.stderr
    assert "\x1b[2J" not in completed.stderr and "\u202e" not in completed.stderr


def test_password_in_registry_address_is_hidden_everywhere(tmp_path: Path) -> None:
    from jobs.lake.delta_io import Lake
    from jobs.lake.runs import Run
    from jobs.models.model_store import open_registry
    from jobs.runtime.logs import JsonLines
    from jobs.runtime.settings import load_settings

    address = "postgresql://fraud:S3cretPw9@127.0.0.1:1/mlflow"
    settings = load_settings(None, {"lake": str(tmp_path), "registry_uri": address})
    with pytest.raises(InputMissing, match=r"postgresql://\*\*\*@127") as raised:
        open_registry(Lake(None, settings))  # type: ignore[arg-type]
    run = Run("train", None, {})
    run.finish(RuntimeError(f"cannot reach {address}"))
    record = logging.LogRecord("x", logging.INFO, "x", 1, f"connecting to {address}", None, None)
    record.fields = {"registry": address}
    outputs = (
        raised.value.found,
        run.error,
        escape_control_characters(address),
        JsonLines().format(record),
    )
    assert not any("S3cretPw9" in str(text) for text in outputs)
    assert "127.0.0.1" in str(run.error)


@pytest.mark.parametrize("source", ["s3a://key:secret@bank/day", "ftp://me:word@bank"])
def test_delivery_source_with_a_password_is_refused(source: str) -> None:
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery

    with pytest.raises(UsageError, match="contains a password") as raised:
        Delivery(source, "csv", load_mapping("handbook")).arguments  # noqa: B018
    assert "secret" not in str(raised.value) and "word@" not in str(raised.value)


@pytest.mark.parametrize("character", [*"\\[]{}*?%"])
def test_lake_path_with_special_character_is_refused(character: str, tmp_path: Path) -> None:
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    settings = load_settings(None, {"lake": f"{tmp_path}/a{character}b"})
    with pytest.raises(UsageError, match="choose another path"):
        Lake(None, settings).path("scores")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["..", "../lake", "/etc", "a/../../b", "a\\b", "x\0", "", "."])
def test_lake_path_outside_the_lake_is_refused(name: str, tmp_path: Path) -> None:
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    lake = Lake(None, load_settings(None, {"lake": str(tmp_path)}))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not a valid name"):
        lake.path("_reports", name)


@pytest.mark.parametrize("version", ["../../x", "1/../2", "²", "٣", "9" * 30, "-1", "", "1; DROP"])
def test_registry_refuses_an_invalid_model_version(version: str, tmp_path: Path) -> None:
    from fraud_models.registry.mlflow_registry import Registry

    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"))
    with pytest.raises(InputMissing):
        registry.resolve(version)


@pytest.mark.parametrize("day", ["../2024-03-01", "2024-03-01/..", "2024-03-01\n", "2024-3-1 "])
def test_parse_day_refuses_an_invalid_date(day: str) -> None:
    from jobs.cli.options import parse_day

    with pytest.raises(UsageError):
        parse_day(day, "--date")


@pytest.mark.spark
def test_lake_tables_in_a_catalog_can_be_written_and_read(
    spark: SparkSession, make_lake: Callable[..., Lake]
) -> None:
    from jobs.lake.tables import METRICS, QUARANTINE

    spark.sql("CREATE SCHEMA IF NOT EXISTS risk_tables")
    names = {"metrics": "`risk_tables`.`metrics`", "quarantine": "quarantine_elsewhere"}
    lake = make_lake(tables=names)
    try:
        for table in (METRICS, QUARANTINE):
            assert not lake.has(table)
            lake._create_table(table)
            assert lake.has(table)
        rows = [("s", "{}", ["too_late"], "r", date(2024, 3, 1))]
        lake.append(QUARANTINE, spark.createDataFrame(rows, QUARANTINE.ddl), "r")
        assert lake.read(QUARANTINE).count() == 1
        assert lake.version(METRICS) == 0
    finally:
        spark.sql("DROP SCHEMA risk_tables CASCADE")
        spark.sql("DROP TABLE IF EXISTS quarantine_elsewhere")
