"""Drift: known PSI values, too few nights of history, and a night that has shifted."""

from __future__ import annotations

import json
import math
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from jobs.quality.drift import DriftInput, drift, level_of, population_stability_index

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

DAY = date(2018, 8, 8)
METRIC_GROUPS = {"reference", "features", "scores", "calibration", "late", "alerts"}


def test_psi_of_equal_distributions_is_zero() -> None:
    assert population_stability_index({0: 1, 1: 3, -1: 2}, {0: 100, 1: 300, -1: 200}) == 0.0


def test_psi_equals_a_value_computed_by_hand() -> None:
    # (0.7 - 0.5) ln(0.7 / 0.5) + (0.3 - 0.5) ln(0.3 / 0.5)
    assert population_stability_index({0: 70, 1: 30}, {0: 50, 1: 50}) == pytest.approx(
        0.16946, 1e-4
    )


def test_psi_with_an_empty_bin_is_finite_and_positive() -> None:
    index = population_stability_index({0: 100}, {0: 90, 1: 10})
    assert index is not None
    assert 0.1 < index < 1


def test_psi_without_rows_is_none() -> None:
    assert population_stability_index({}, {0: 1}) is None
    assert level_of(None) == "not applicable"
    assert [level_of(psi) for psi in (0.0, 0.1, 0.25, 0.26)] == [
        "steady",
        "shifting",
        "shifting",
        "shifted",
    ]


def compared(spark: SparkSession, num_nights: int) -> DriftInput:
    """`same` has one distribution; `moved` doubles at the night; `gone` is null at the night.

    `new` has values at the night only.
    """
    reference = [
        (DAY - timedelta(days=1 + row % num_nights), float(row % 40), float(row % 40), 1.0, None)
        for row in range(40 * num_nights)
    ]
    night = [(DAY, float(row % 40), 2.0 * (row % 40) + 5, None, 1.0) for row in range(400)]
    schema = "business_date date, same double, moved double, gone double, new double"
    frame = spark.createDataFrame(reference + night, schema)
    columns = ("same", "moved", "gone", "new")
    return DriftInput(frame.coalesce(1), DAY, columns, "earlier nights are there")


@pytest.mark.spark
def test_drift_detects_shifted_and_null_columns_only(spark: SparkSession) -> None:
    found = drift(compared(spark, 9))
    psi = {name: entry["psi"] for name, entry in found["columns"].items()}
    assert found["num_nights"] == 9
    assert psi["same"] == pytest.approx(0.0, abs=0.01)
    assert psi["moved"] > 0.25
    assert psi["gone"] > 0.25
    assert found["columns"]["new"] == {"psi": None, "level": "not applicable"}


@pytest.mark.spark
def test_drift_of_categories_counts_new_values_as_other(spark: SparkSession) -> None:
    """`same` keeps its shares; `new` has unseen values; `moved` other shares; `gone` none."""
    from pyspark.sql import functions as F

    kinds = [f"kind {index:02d}" for index in range(40)]
    rows = [
        (DAY - timedelta(days=1 + row % 9), kinds[row % 4], kinds[row % 4], kinds[row % 40], "x")
        for row in range(3600)
    ]
    rows += [(DAY, kinds[row % 4], f"new {row}", kinds[row % 10], None) for row in range(400)]
    schema = "business_date date, same string, new string, moved string, gone string"
    frame = spark.createDataFrame(rows, schema).withColumn("number", F.lit(1.0))
    columns = ("number", "same", "new", "moved", "gone")
    found = drift(DriftInput(frame.coalesce(1), DAY, columns, "earlier nights are there"))
    psi = {name: entry["psi"] for name, entry in found["columns"].items()}
    assert psi["same"] == psi["number"] == 0.0
    assert psi["new"] > 2 and psi["gone"] > 2
    # Ten of the twenty bins, and `other` with a half of the reference, are empty on the night.
    expected = 10 * (0.1 - 1 / 40) * math.log(4)
    expected += 10 * (1 / 800 - 1 / 40) * math.log(40 / 800)
    expected += (1 / 800 - 1 / 2) * math.log(2 / 800)
    assert psi["moved"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.spark
def test_drift_with_six_nights_is_not_applicable(spark: SparkSession) -> None:
    found = drift(compared(spark, 6))
    assert found["status"] == "not applicable"
    assert found["columns"] == {}


@pytest.mark.spark
def test_monitor_records_all_metrics_of_a_night(filled_lake: Lake) -> None:
    from jobs import monitor
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import RUNS

    with lease_nights(filled_lake, Dates(DAY, DAY)) as night:
        monitor.run(night)
        figures, gates = night.finished["monitor"].figures, night.finished["monitor"].gates
    assert set(figures) == METRIC_GROUPS
    assert figures["features"]["num_nights"] == 11
    # A night covers one weekday only, so this feature is not compared.
    assert "transaction_day_of_week" not in figures["features"]["columns"]
    assert figures["scores"]["columns"]["score"]["level"] in ("steady", "shifting")
    assert [entry["above"] for entry in figures["calibration"]["levels"]] == [0.9, 0.99, 0.999]
    assert figures["alerts"]["mean_before"] == 5
    assert all(check["severity"] == "warn" for check in gates[0]["checks"])
    rows: list[Any] = filled_lake.read(RUNS).where("job = 'monitor'").collect()
    assert all(set(json.loads(row["figures"])) == METRIC_GROUPS for row in rows)


def test_not_applicable_check_does_not_count_as_passed() -> None:
    from jobs.monitor import run_checks

    undecided = {"status": "not applicable", "why": "6 nights; a comparison needs 7."}
    result = run_checks(
        {
            "features": {**undecided, "columns": {}},
            "scores": {**undecided, "columns": {}},
            "calibration": {**undecided, "levels": []},
            "alerts": undecided,
            "late": {"num_rows": 3, "by_event_date": {"2018-08-07": 3}},
        }
    )
    statuses = [check.status for check in result.checks]
    assert statuses == ["not applicable"] * 4 + ["failed"]
    assert result.passed, "a warning does not fail the gate"
