"""A gate passes only what it has seen to hold: failed, crashed and empty gates stop the night."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from feature_defs.problems import GateFailed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


def expectations(severity: Any = "fail", column: str = "v") -> list[Any]:
    import great_expectations.expectations as gxe

    from jobs.quality.gate import Expectation

    return [
        Expectation("id_unique", "ids are unique", gxe.ExpectColumnValuesToBeUnique(column="id")),
        Expectation(
            "v_there", "v is there", gxe.ExpectColumnValuesToNotBeNull(column=column), severity
        ),
    ]


def statuses(result: Any) -> dict[str, str]:
    return {check.name: check.status for check in result.checks}


def test_what_holds_passes_and_what_does_not_stops(spark: SparkSession) -> None:
    from jobs.lake.runs import Run
    from jobs.quality.gate import require, validate

    good = spark.createDataFrame([("a", 1.0), ("b", 2.0)], "id string, v double")
    bad = spark.createDataFrame([("a", 1.0), ("a", None)], "id string, v double")
    assert validate("gate", expectations(), good).passed
    failed = validate("gate", expectations(), bad)
    assert statuses(failed) == {"id_unique": "failed", "v_there": "failed"}
    run = Run("ingest", None, {})
    with pytest.raises(GateFailed, match=r"ids are unique .*v is there"):
        require(failed, run)
    assert run.gates == [failed.as_record()]


def test_a_warning_is_told_and_does_not_stop(spark: SparkSession) -> None:
    from jobs.quality.gate import validate

    frame = spark.createDataFrame([("a", None)], "id string, v double")
    result = validate("gate", expectations("warn"), frame)
    assert result.passed
    assert statuses(result)["v_there"] == "failed"


def test_a_crashed_check_is_a_failed_gate_with_its_own_words(spark: SparkSession) -> None:
    from jobs.quality.gate import validate

    frame = spark.createDataFrame([("a", 1.0)], "id string, v double")
    result = validate("gate", expectations(column="nowhere"), frame)
    assert not result.passed
    crashed = next(check for check in result.checks if check.name == "v_there")
    assert crashed.status == "crashed"
    assert "nowhere" in crashed.observed


def test_a_gate_without_checks_decides_nothing() -> None:
    from jobs.lake.runs import Run
    from jobs.quality.gate import GateResult, require

    with pytest.raises(GateFailed, match="nothing to check"):
        require(GateResult("gate", ()), Run("ingest", None, {}))
