"""Nights of a lake that gains attributes: later nights have more features.

Features that a lake cannot have are refused where they are named.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner

from feature_defs.catalogue import FEATURES, available, fingerprints
from feature_defs.errors import UsageError
from jobs import features, ingest
from jobs.cli.main import app
from jobs.deliveries.mapping import Mapping
from jobs.deliveries.source import Delivery
from jobs.features import _hours_known
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.nights import lease_nights
from jobs.lake.run_history import night_records
from jobs.lake.tables import FEATURES_TABLE, TRANSACTIONS
from jobs.report_pages import feature_table

pytestmark = pytest.mark.spark

FIRST, SECOND = date(2024, 3, 1), date(2024, 3, 2)
SAME = "card_merchant_category_same_share_30d"


def mapping(attributes: dict[str, str]) -> Mapping:
    return Mapping.model_validate(
        {
            "name": "bank",
            "currency": "EUR",
            "refunds": "refused",
            "transactions": {
                "path": "tx",
                "business_date": "day",
                "columns": {
                    "transaction_id": "id", "event_time": "at", "card_id": "card",
                    "merchant_id": "shop", "amount": "amount",
                },
                "attributes": attributes,
            },
            "labels": {
                "completeness": "frauds_only", "maturity_days": 30, "label_delay_days": 7,
                "columns": {"is_fraud": "fraud"},
            },
        }
    )  # fmt: skip


def run_night(lake: Lake, source: Path, day: date, attributes: dict[str, str]) -> None:
    """Deliver four payments of a card and build their features."""
    lines = ["id,at,card,shop,amount,day,merchant_category,fraud"]
    lines += [
        f"{day}-{nth},{day} 10:00:0{nth},c,m,{nth}.25,{day},{category},0"
        for nth, category in enumerate(("food", "food", "", "travel"))
    ]
    (source / "tx").mkdir(parents=True, exist_ok=True)
    for old in (source / "tx").iterdir():
        old.unlink()
    (source / "tx" / f"{day}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with lease_nights(lake, Dates(day, day)) as night:
        ingest.run(night, Delivery(str(source), format="csv", mapping=mapping(attributes)))
        features.run(night)


def rows_of(lake: Lake, day: date) -> dict[str, Any]:
    rows = lake.read(FEATURES_TABLE).where(F.col("business_date") == F.lit(day)).collect()
    return {row["transaction_id"]: row for row in rows}


def test_nights_after_an_attribute_came_have_its_features(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    run_night(lake, source, FIRST, {})
    assert lake.read(FEATURES_TABLE).columns == list(FEATURES_TABLE.column_names)
    without = night_records(lake, Dates(FIRST, FIRST))[FIRST]["features"].figures["fingerprints"]
    assert without == fingerprints(available(FEATURES))

    run_night(lake, source, SECOND, {"merchant_category": "categorical"})
    later = rows_of(lake, SECOND)
    shares = [later[f"{SECOND}-{nth}"][SAME] for nth in range(4)]
    # The four payments of the first night have no category.
    assert shares == [0.0, pytest.approx(1 / 5), None, 0.0]
    categories = [later[f"{SECOND}-{n}"]["transaction_merchant_category"] for n in range(4)]
    assert categories == ["food", "food", None, "travel"]
    firsts = [later[f"{SECOND}-{n}"]["card_in_category_first_time_30d"] for n in range(4)]
    assert firsts == [1.0, 0.0, None, 1.0]
    assert {row[SAME] for row in rows_of(lake, FIRST).values()} == {None}
    recorded = night_records(lake, Dates(FIRST, SECOND))[SECOND]["features"].figures
    assert set(recorded["fingerprints"]) - set(without) == {
        SAME,
        "transaction_merchant_category",
        "card_in_category_first_time_30d",
    }
    assert {**recorded["fingerprints"], **without} == recorded["fingerprints"]

    columns = dict(lake.read(TRANSACTIONS).dtypes)
    described = {row[0]: row[-1] for row in feature_table.rows(columns)}
    assert described["transaction_channel"] == "not available: no channel"
    assert described[SAME] == "merchant_category"
    assert described["card_count_1h"] == ""


def test_describe_of_a_lake_says_what_is_not_available(lake: Lake, monkeypatch: Any) -> None:
    from jobs.cli import night_commands

    monkeypatch.setattr(
        night_commands, "_transaction_columns", lambda settings: {"channel": "string"}
    )
    result = CliRunner().invoke(app, ["features", "--describe"])
    lines = {line.split("│")[1].strip(): line for line in result.output.splitlines() if "│" in line}
    assert "not available: no merchant_category" in lines[SAME]
    assert "not available" not in lines["transaction_channel"]


def test_training_on_features_that_are_not_available_is_refused(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from fraud_models.recipes import lstm_autoencoder
    from jobs import train
    from jobs.models.training_plan import TrainingPlan

    config = lstm_autoencoder()
    config = replace(config, columns=(*config.columns, SAME))
    plan = TrainingPlan(SECOND, "mine", config, 1)
    with pytest.raises(UsageError, match=f"{SAME} needs merchant_category"):
        train._pin(lake, plan)


def test_hours_are_known_unless_a_payment_has_no_time_of_day(spark: SparkSession) -> None:
    def known(*values: bool | None) -> bool:
        rows = [(value,) for value in values]
        return _hours_known(spark.createDataFrame(rows, "has_time_of_day boolean"))

    assert known(True, None)
    assert not known(True, False)
    assert _hours_known(spark.range(1).toDF("transaction_id"))


def test_features_without_a_time_of_day_pass_gate_2() -> None:
    from jobs.quality.suites.features import suite_of

    names = {item.name for item in suite_of(available(FEATURES)).expectations()}
    relaxed = suite_of(available(FEATURES), hours_known=False)
    without = {item.name for item in relaxed.expectations()}
    assert names - without == {"transaction_hour_of_day_there"}
    assert "transaction_hour_of_day" not in relaxed.profile.required_columns
