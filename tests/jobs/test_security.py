"""What must not leak, lead astray or run: secrets, raw ids, names and texts of others."""

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
STEERING = "\x1b[2J\x1b]0;owned\x07\u202e\u2066\x9b31m\r\x08"
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


def ingest(place: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """The command itself, with Spark's event log, which is what its interface shows."""
    (place / "events").mkdir(exist_ok=True)
    (place / "bank.toml").write_text(MAPPING, encoding="utf-8")
    settings = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"{place}/events",
        "spark.local.dir": f"{place}/local",
    }
    return subprocess.run(
        [
            sys.executable, "-m", "jobs", "ingest", "--lake", str(place / "lake"), "--source",
            str(source), "--format", "csv", "--mapping", str(place / "bank.toml"), "--date", DAY,
            "--debug", "--log-format", "text",
        ],
        env={
            **os.environ, "FRAUD_PSEUDONYM_KEY": KEY, **quick_environment(**settings),
            "FRAUD_MAX_QUARANTINED_SHARE": "1",
        },
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def leaks(place: Path, *ended: subprocess.CompletedProcess[str]) -> list[str]:
    """Where the key, an id or a card number is to be found as it was."""
    secrets = (KEY, "marker-id", "marker-card", CARD)
    texts = {f"output {n}": run.stdout + run.stderr for n, run in enumerate(ended)}
    for file in place.rglob("*"):
        if file.is_file() and place / "source" not in file.parents:
            texts[str(file.relative_to(place))] = file.read_bytes().decode("latin-1")
    assert any(name.startswith("events/") for name in texts)
    assert any(name.startswith("lake/") for name in texts)
    return [
        f"{secret} in {name}"
        for name, text in texts.items()
        for secret in secrets
        if secret in text
    ]


@pytest.mark.spark
@pytest.mark.slow
def test_neither_key_nor_raw_ids_are_anywhere(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "good").mkdir(parents=True)
    (source / "bad").mkdir()
    good = [
        row("fine"), row("refused", amount="x"), row("twice"), row("twice"), row("early", at="?"),
        row("conflict"), row("conflict", amount="2"), row("number", id=CARD, card=CARD, risk="?"),
        "marker-id-short,x\n", row("long", risk="0.5,marker-card-more"), row("no day", day="?"),
    ]  # fmt: skip
    (source / "good" / "part.csv").write_text(HEADER + "".join(good), encoding="utf-8")
    taken = ingest(tmp_path, source / "good")
    assert taken.returncode == 0, taken.stderr
    joined = [row("open", risk='"'), row("swallowed"), row("closed", risk='0"')]
    (source / "bad" / "part.csv").write_text(HEADER + "".join(joined), encoding="utf-8")
    refused = ingest(tmp_path, source / "bad")
    assert refused.returncode == 3 and "no_swallowed_rows" in refused.stderr, refused.stderr
    # A file without its header has a row where names should stand.
    (source / "bad" / "part.csv").write_text(HEADER + row("fine"), encoding="utf-8")
    (source / "bad" / "zzz.csv").write_text(row("headless"), encoding="utf-8")
    headless = ingest(tmp_path, source / "bad")
    assert headless.returncode == 2 and "or no header" in headless.stderr, headless.stderr
    assert leaks(tmp_path, taken, refused, headless) == []


def test_text_that_steers_a_terminal_is_shown_as_its_code() -> None:
    assert escape_control_characters("Café 卡 7\u00b0") == "Café 卡 7\u00b0"
    shown = escape_control_characters(f"a{STEERING}b")
    assert shown.isprintable() and shown.startswith("a\\x1b[2J") and shown.endswith("\\x08b")


def test_an_explanation_shows_no_control_signs(capsys: pytest.CaptureFixture[str]) -> None:
    from pyspark.sql import Row

    from jobs import explain
    from jobs.lineage.audit import Recomputed
    from jobs.lineage.explanation import Explanation
    from jobs.models.executor_functions import FeatureContribution

    moment = datetime(2024, 3, 1, tzinfo=UTC)
    event = Row(event_time=moment, transaction_id=f"t{STEERING}", merchant_id=f"[red]{STEERING}",
                amount=Decimal(1))  # fmt: skip
    part = FeatureContribution("transaction_amount", 1.0, 2.0, 0.5, 0.5)
    explain.show(
        Explanation(
            transaction_id=f"t{STEERING}", business_date=date(2024, 3, 1), event_time=moment,
            card_id=f"[bold]{STEERING}", merchant_id=STEERING, amount=Decimal(1), score=0.5,
            reconstruction_error=0.5, ranking_value=0.5, recomputed=Recomputed(0.5, 0.5),
            model_version="1", run_id="r", versions={}, contributions=(part,), recent=(event,),
        )
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert "\\x1b[2J" in shown and "[bold]" in shown and "[red]" in shown
    assert not any(sign in shown.replace("\n", "") for sign in STEERING if not sign.isprintable())


def test_an_error_shows_no_control_signs() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "jobs", "features", "--lake", "x", "--date", f"d{STEERING}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2 and "is not a valid date" in ended.stderr
    assert "\x1b[2J" not in ended.stderr and "\u202e" not in ended.stderr


def test_a_password_in_an_address_is_nowhere_to_be_seen(tmp_path: Path) -> None:
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
    run.finish(RuntimeError(f"no way to {address}"))
    record = logging.LogRecord("x", logging.INFO, "x", 1, f"trying {address}", None, None)
    record.fields = {"registry": address}
    shown = (
        raised.value.found,
        run.error,
        escape_control_characters(address),
        JsonLines().format(record),
    )
    assert not any("S3cretPw9" in str(text) for text in shown)
    assert "127.0.0.1" in str(run.error)


@pytest.mark.parametrize("place", ["s3a://key:secret@bank/day", "ftp://me:word@bank"])
def test_a_place_with_a_password_is_refused(place: str) -> None:
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery

    with pytest.raises(UsageError, match="contains a password") as raised:
        Delivery(place, "csv", load_mapping("handbook")).arguments  # noqa: B018
    assert "secret" not in str(raised.value) and "word@" not in str(raised.value)


@pytest.mark.parametrize("sign", [*"\\[]{}*?%"])
def test_a_lake_is_not_where_its_name_means_something_else(sign: str, tmp_path: Path) -> None:
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    settings = load_settings(None, {"lake": f"{tmp_path}/a{sign}b"})
    with pytest.raises(UsageError, match="choose another place"):
        Lake(None, settings).path("scores")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["..", "../lake", "/etc", "a/../../b", "a\\b", "x\0", "", "."])
def test_no_name_leads_out_of_the_lake(name: str, tmp_path: Path) -> None:
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    lake = Lake(None, load_settings(None, {"lake": str(tmp_path)}))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="not a valid name"):
        lake.path("_reports", name)


@pytest.mark.parametrize("version", ["../../x", "1/../2", "²", "٣", "9" * 30, "-1", "", "1; DROP"])
def test_a_model_version_is_one_that_is_registered(version: str, tmp_path: Path) -> None:
    from fraud_models.registry.mlflow_registry import Registry

    registry = Registry(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"))
    with pytest.raises(InputMissing):
        registry.resolve(version)


@pytest.mark.parametrize("day", ["../2024-03-01", "2024-03-01/..", "2024-03-01\n", "2024-3-1 "])
def test_a_date_is_a_date(day: str) -> None:
    from jobs.cli.options import parse_day

    with pytest.raises(UsageError):
        parse_day(day, "--date")


@pytest.mark.spark
def test_tables_may_live_in_a_catalog(spark: SparkSession, make_lake: Callable[..., Lake]) -> None:
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
