"""Finished nights of a small bank, written directly to the tables without running a job."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

LAST_NIGHT = date(2018, 8, 8)
HOSTILE = '<script>alert("x")</script>\'"&'
MODEL = "3"


@dataclass(frozen=True)
class Bank:
    """Size of the bank, its last night, and the seed of its random data."""

    num_cards: int = 40
    num_nights: int = 12
    num_alerts: int = 5
    last_night: date = LAST_NIGHT
    seed: int = 7

    @property
    def nights(self) -> list[date]:
        first = self.last_night - timedelta(days=self.num_nights - 1)
        return [first + timedelta(days=offset) for offset in range(self.num_nights)]


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _night_transactions(bank: Bank, day: date, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for card in range(bank.num_cards):
        for nth in range(1 + int(rng.poisson(1.2))):
            fraud = bool(rng.random() < 0.02)
            late = rng.random() < 0.01 and day != bank.nights[0]
            moment = midnight(day - timedelta(days=int(late)))
            score = 1 - 10 ** -rng.uniform(1.5, 4.5) if fraud else float(rng.random())
            typical = 10 + 3 * (card % 17)
            amount = typical * (8 if fraud else 1) * float(rng.lognormal(0, 0.4))
            rows.append(
                {
                    "transaction_id": f"t{day:%m%d}-{card:04d}-{nth}",
                    "event_time": moment + timedelta(seconds=int(rng.integers(0, 86400))),
                    "business_date": day,
                    "card_id": HOSTILE if card == 0 else f"card-{card:05d}",
                    "merchant_id": f"=m{int(rng.integers(0, 80)):04d}",
                    "amount": Decimal(f"{amount:.2f}"),
                    "is_fraud": fraud,
                    "score": 0.99999 if card == 0 and nth == 0 else float(score),
                    "typical": typical,
                }
            )
    return rows


def _feature_values(row: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    from feature_defs.catalogue import FEATURES, available
    from feature_defs.feature import Kind

    event_time = row["event_time"]
    values: dict[Kind, Callable[[], Any]] = {
        Kind.AMOUNT: lambda: float(row["amount"]),
        Kind.COUNT: lambda: int(rng.poisson(4)),
        Kind.RATE: lambda: float(rng.choice([0, 0, 0, 0.1, 0.5])),
        Kind.PROBABILITY: lambda: float(rng.choice([0.005, 0.005, 0.005, 0.3])),
        Kind.RATIO: lambda: float(rng.lognormal(0, 0.4)),
        Kind.DURATION_S: lambda: float(rng.exponential(40000)) if rng.random() < 0.9 else None,
        Kind.HOUR_OF_DAY: lambda: event_time.hour + event_time.minute / 60,
        Kind.DAY_OF_WEEK: lambda: float(event_time.weekday()),
        Kind.NUMBER: lambda: float(rng.normal()),
    }
    return {name: values[feature.kind]() for name, feature in available(FEATURES).items()}


def _reasons(row: dict[str, Any], rng: np.random.Generator) -> list[tuple[Any, ...]]:
    hour = row["event_time"].hour + row["event_time"].minute / 60
    choices: list[tuple[Any, ...]] = [
        ("transaction_amount", float(row["amount"]), float(row["typical"]), 6.1),
        ("transaction_hour_of_day", hour, 14.0, 2.2),
        ("merchant_fraud_rate_7d_delay_7d", 0.62, 0.0, 4.0),
        ("card_seconds_since_last_30d", 240.0, 32400.0, 1.9),
        ("card_count_1d", 9.0, 2.0, 1.1),
        ("card_amount_mean_7d", 3 * float(row["typical"]), float(row["typical"]), 1.0),
        ("card_count_3d_retired" + HOSTILE, 3.0, None, 0.4),
    ]
    chosen = [choices[0], *(choices[i] for i in rng.permutation(range(1, 7))[:2])]
    # Numbers have no texts: those are of categories.
    return [(*reason, None, None) for reason in chosen]


def _alert_rows(rows: list[dict[str, Any]], bank: Bank) -> list[tuple[Any, ...]]:
    top: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["card_id"]] = counts.get(row["card_id"], 0) + 1
        best = top.setdefault(row["card_id"], row)
        if row["score"] > best["score"]:
            top[row["card_id"]] = row
    ranked = sorted(top.values(), key=lambda row: -row["score"])[: bank.num_alerts]
    return [
        (
            row["business_date"],
            rank,
            row["card_id"],
            row["transaction_id"],
            counts[row["card_id"]],
            row["score"],
            row["amount"],
            row["reasons"],
        )
        for rank, row in enumerate(ranked, 1)
    ]


def fill(lake: Lake, bank: Bank) -> None:
    """Write all nights of the bank to the tables of an empty lake."""
    from jobs.lake import tables

    rng = np.random.default_rng(bank.seed)
    rows = [row for day in bank.nights for row in _night_transactions(bank, day, rng)]
    for row in rows:
        row["reasons"] = _reasons(row, rng)
        row.update(_feature_values(row, rng))
        row.update(
            ingest_time=midnight(row["business_date"]) + timedelta(hours=26),
            reconstruction_error=20 * row["score"],
            ranking_value=20 * row["score"],
            num_context_events=12,
            in_sample=False,
            model_version=MODEL,
            run_id="score-1",
            scored_at=midnight(row["business_date"]) + timedelta(hours=27),
        )
    alerts = [
        alert
        for day in bank.nights
        for alert in _alert_rows([row for row in rows if row["business_date"] == day], bank)
    ]
    _append(lake, tables.TRANSACTIONS, rows)
    _append(lake, tables.FEATURES_TABLE, rows)
    _append(lake, tables.SCORES, rows)
    _append(lake, tables.LABELS, _label_rows(rows))
    _append(lake, tables.QUARANTINE, _quarantine_rows(bank))
    _append(lake, tables.METRICS, _metric_rows())
    _append_tuples(lake, tables.ALERTS, alerts)
    _append_nights(lake, bank, rows)


def _label_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    delay = timedelta(days=7)
    return [
        {
            "transaction_id": row["transaction_id"],
            "is_fraud": row["is_fraud"],
            "label_time": row["event_time"] + delay,
            "source": "chargeback",
            "ingest_time": row["ingest_time"] + delay,
            "business_date": row["business_date"] + delay,
        }
        for row in rows
    ]


def _quarantine_rows(bank: Bank) -> list[dict[str, Any]]:
    invalid = [
        ({"TX_AMOUNT": HOSTILE, "TRANSACTION_ID": "9"}, ["unparsable_amount"]),
        ({"TX_AMOUNT": "12,50 EUR", "TRANSACTION_ID": "10"}, ["unparsable_amount"]),
        ({"TX_AMOUNT": "-3", "TX_DATETIME": "2018-31-02"}, ["negative_amount", "too_late"]),
        ({"CUSTOMER_ID": "x" * 5000}, ["oversized_id"]),
    ]
    return [
        {
            "source": "bank/transactions",
            "raw": json.dumps(raw),
            "reasons": reasons,
            "run_id": "ingest-1",
            "business_date": day,
        }
        for day in bank.nights
        for raw, reasons in invalid
    ]


def _metric_rows() -> list[dict[str, Any]]:
    metrics = {"average_precision": 0.181, "auc_roc": 0.842, "cp_at_100": 0.22}
    return [
        {
            "run_id": "evaluate-1",
            "model": model,
            "first_date": date(2018, 7, 1),
            "last_date": date(2018, 7, 7),
            "name": name,
            "value": factor * value,
            "interval_low": factor * value - 0.02,
            "interval_high": factor * value + 0.02,
            "evaluated_at": midnight(date(2018, 7, 15)),
        }
        for model, factor in ((f"version_{MODEL}", 1.0), ("isolation_forest", 0.9))
        for name, value in metrics.items()
    ]


def _append(lake: Lake, table: Any, rows: list[dict[str, Any]]) -> None:
    _append_tuples(lake, table, [tuple(row[name] for name in table.column_names) for row in rows])


def _append_tuples(lake: Lake, table: Any, rows: list[tuple[Any, ...]]) -> None:
    lake.append(table, lake.spark.createDataFrame(rows, table.ddl).coalesce(1), "filled")


def gate(name: str, *checks: dict[str, Any]) -> dict[str, Any]:
    """Return a gate's record with these checks and one more that passed."""
    passed = {
        "name": "conservation",
        "sentence": "Rows read are rows accepted plus rows quarantined.",
        "severity": "fail",
        "status": "passed",
        "observed": "0",
    }
    failures = [
        c for c in checks if c["severity"] == "fail" and c["status"] in ("failed", "crashed")
    ]
    return {"gate": name, "passed": not failures, "checks": [passed, *checks]}


UNDECIDED_CHECK = {
    "name": "volume",
    "sentence": "About as many rows as on the nights before.",
    "severity": "warn",
    "status": "not applicable",
    "observed": "5 earlier nights; 7 are needed",
}


def finished_runs(lake: Lake, bank: Bank, day: date, num_rows: int) -> dict[str, Any]:
    """Return the run records of a night, from `ingest` to `alerts`, by job."""
    from jobs.lake.dates import Dates
    from jobs.lake.runs import Run

    moment = midnight(day) + timedelta(hours=26)
    runs = {}
    for position, job in enumerate(("ingest", "features", "score", "publish", "alerts")):
        run = Run(
            job,
            Dates(day, day),
            {},
            f"{job}-{day:%Y%m%d}T020000-abc123",
            status="done",
            started_at=moment + timedelta(minutes=position),
            finished_at=moment + timedelta(minutes=position + 1),
            rows={job: num_rows},
        )
        runs[job] = run
        if job in ("score", "publish", "alerts"):
            run.model_version = MODEL
    runs["ingest"].figures = {"by_night": {str(day): [num_rows + 4, num_rows, 4]}}
    runs["ingest"].gates = [gate("gate 1", UNDECIDED_CHECK)]
    runs["features"].gates = [gate("gate 2")]
    runs["publish"].gates = [gate("gate 4")]
    runs["alerts"].figures = {"threshold": 0.9985, "alert_budget": bank.num_alerts}
    return runs


def _append_nights(lake: Lake, bank: Bank, rows: list[dict[str, Any]]) -> None:
    from jobs.lake.nights import PINNED
    from jobs.lake.tables import NIGHTS

    pins = lake.versions(PINNED)
    nights = []
    for day in bank.nights:
        num_rows = sum(row["business_date"] == day for row in rows)
        jobs = finished_runs(lake, bank, day, num_rows)
        records = {name: run.to_json() for name, run in jobs.items()}
        written_at = midnight(day) + timedelta(hours=27)
        nights.append((day, "open", None, None, 1, pins, MODEL, records, None, written_at))
    _append_tuples(lake, NIGHTS, nights)


@pytest.fixture(scope="session")
def filled_folder(
    spark: SparkSession, empty_lake: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Create a lake with twelve nights once; tests work on copies of it."""
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    path = tmp_path_factory.mktemp("filled") / "lake"
    shutil.copytree(empty_lake, path)
    fill(Lake(spark, load_settings(None, {"lake": str(path)})), Bank())
    return path


@pytest.fixture
def filled_lake(spark: SparkSession, filled_folder: Path, tmp_path: Path) -> Lake:
    """Copy the lake with twelve nights; the last one still needs `monitor` and `report`."""
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    path = tmp_path / "filled"
    shutil.copytree(filled_folder, path)
    return Lake(spark, load_settings(None, {"lake": str(path), "alert_budget": 5}))
