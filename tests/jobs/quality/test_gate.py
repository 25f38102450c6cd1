"""Gates: a failed, crashed or empty gate stops the night; overrides are recorded."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import great_expectations.expectations as gxe
import pytest

from feature_defs.errors import GateFailed
from jobs.lake.dates import Dates
from jobs.lake.runs import Run
from jobs.quality.gate import Expectation, GateResult, require, run_or_crash, validate
from jobs.quality.overrides import GATES, GateOverride

GATE = GATES["ingest"]
DAY = date(2024, 3, 1)
OVERRIDE = GateOverride(GATE, "bank holiday", "ada")


def expectations(column: str = "v", **changes: Any) -> list[Expectation]:
    none_lost = gxe.ExpectColumnValuesToBeBetween(column="lost", min_value=0, max_value=0)
    large = gxe.ExpectColumnValuesToBeBetween(column=column, min_value=1)
    return [
        Expectation("none_lost", "No row is lost.", none_lost, "{lost} lost", kind="conservation"),
        Expectation("v_large", "v is large.", large, "v is {v}", **changes),
    ]


def run_gate(*rows: dict[str, Any], **changes: Any) -> GateResult:
    return validate(GATE, expectations(**changes), rows, "night")


def row(night: str = "monday", lost: int = 0, v: float | None = 2.0) -> dict[str, Any]:
    return {"night": night, "lost": lost, "v": v}


def observed_by_check(result: GateResult) -> dict[str, tuple[str, str]]:
    return {check.name: (check.status, check.observed) for check in result.checks}


def test_failed_check_stops_the_night_and_names_the_rows() -> None:
    assert run_gate(row()).passed
    assert observed_by_check(run_gate(row()))["v_large"] == ("passed", "v is 2.0")
    failed = run_gate(row(), row("tuesday", lost=3, v=0.5), row("sunday", lost=1))
    assert observed_by_check(failed) == {
        "none_lost": ("failed", "tuesday: 3 lost; sunday: 1 lost"),
        "v_large": ("failed", "tuesday: v is 0.5"),
    }
    run = Run("ingest", None, {})
    with pytest.raises(GateFailed, match=r"No row is lost.*v is large"):
        require(failed, run)
    assert run.gates == [failed.as_record()]


def test_many_failing_nights_are_counted_and_the_first_named() -> None:
    result = run_gate(*(row(f"night {nth}", lost=1) for nth in range(9)))
    status, observed = observed_by_check(result)["none_lost"]
    assert status == "failed"
    assert "night 4: 1 lost; and 4 more" in observed
    assert "night 5" not in observed


def test_failed_warning_does_not_stop_the_night() -> None:
    result = run_gate(row(v=0.0), severity="warn")
    assert result.passed
    assert observed_by_check(result)["v_large"][0] == "failed"


def test_crashed_check_fails_the_gate_with_its_message() -> None:
    result = run_gate(row(), column="nowhere")
    assert not result.passed
    status, observed = observed_by_check(result)["v_large"]
    assert status == "crashed"
    assert "nowhere" in observed
    assert observed_by_check(result)["none_lost"][0] == "passed"
    with pytest.raises(GateFailed, match=r"v_large: crashed, .*nowhere"):
        require(result, Run("ingest", None, {}))


@pytest.mark.spark
def test_unreadable_staged_rows_crash_the_gate_with_the_spark_error(
    spark: Any, tmp_path: Any
) -> None:
    folder = tmp_path / "staged"
    spark.range(3).write.parquet(str(folder))
    frame = spark.read.parquet(str(folder))
    for part in folder.glob("part-*.parquet"):
        part.write_bytes(b"no parquet")
    # Without its checksum file, Spark reads the damaged file itself.
    for checksum in folder.glob(".*.crc"):
        checksum.unlink()

    def count() -> GateResult:
        return run_gate(row(lost=frame.agg({"id": "max"}).collect()[0][0]))

    result = run_or_crash(GATE, count)
    assert not result.passed
    (status, observed) = observed_by_check(result)["facts_counted"]
    assert status == "crashed"
    assert "part-" in observed


def test_missing_fact_fails_unless_the_expectation_allows_it() -> None:
    assert observed_by_check(run_gate(row(v=None)))["v_large"] == ("failed", "monday: unknown")
    assert observed_by_check(run_gate(row(), row("tuesday", v=None)))["v_large"] == (
        "failed",
        "tuesday: unknown",
    )
    assert run_gate(row(v=None), if_missing="pass").passed
    skipped = run_gate(row(v=None), if_missing="not applicable", missing_reason="too few nights")
    assert observed_by_check(skipped)["v_large"] == ("not applicable", "too few nights")
    assert skipped.passed
    result = run_gate(row(v=None), row(v=0.5), if_missing="not applicable")
    assert observed_by_check(result)["v_large"][0] == "failed"


def test_gate_without_checks_fails_and_cannot_be_overridden() -> None:
    with pytest.raises(GateFailed, match="nothing to check"):
        require(GateResult(GATE, ()), Run("ingest", None, {}))
    with pytest.raises(GateFailed, match="nothing to check"):
        require(GateResult(GATE, ()), Run("ingest", None, {}), OVERRIDE)


# -- overrides -------------------------------------------------------------------------------------


def test_overridden_gate_continues_and_records_actor_and_reason() -> None:
    run = Run("ingest", None, {})
    require(run_gate(row(v=0.5)), run, OVERRIDE)
    (record,) = run.gates
    assert not record["passed"]
    assert record["accepted"] == {"reason": "bank holiday", "actor": "ada", "outcome": "overruled"}


def test_unneeded_override_is_recorded_as_not_needed() -> None:
    run = Run("ingest", None, {})
    require(run_gate(row()), run, OVERRIDE)
    assert run.gates[0]["accepted"]["outcome"] == "not needed"
    assert run.gates[0]["passed"]


@pytest.mark.parametrize("kind", ["conservation", "schema"])
def test_conservation_and_schema_cannot_be_overridden(kind: Any) -> None:
    run = Run("ingest", None, {})
    with pytest.raises(GateFailed, match=r"cannot be overridden \(v_large\)"):
        require(run_gate(row(v=0.5), kind=kind), run, OVERRIDE)
    assert run.gates[0]["accepted"]["outcome"] == "refused"


def test_one_protected_check_refuses_the_whole_override() -> None:
    run = Run("ingest", None, {})
    with pytest.raises(GateFailed, match=r"cannot be overridden \(none_lost\)"):
        require(run_gate(row(lost=1, v=0.5)), run, OVERRIDE)
    assert run.gates[0]["accepted"]["outcome"] == "refused"


def test_crash_of_an_unprotected_check_can_be_overridden() -> None:
    run = Run("ingest", None, {})
    require(run_gate(row(), column="nowhere"), run, OVERRIDE)
    assert run.gates[0]["accepted"]["outcome"] == "overruled"


def test_remedy_shows_the_override_command_if_allowed() -> None:
    with pytest.raises(GateFailed, match="ingest --accept delivery --reason TEXT"):
        require(run_gate(row(v=0.5)), Run("ingest", None, {}))
    night, nights = Dates(DAY, DAY), Dates(DAY, DAY + timedelta(days=1))
    with pytest.raises(GateFailed, match="`ingest --date 2024-03-01 --accept delivery"):
        require(run_gate(row(v=0.5)), Run("ingest", night, {}))
    with pytest.raises(GateFailed, match="`ingest --from 2024-03-01 --to 2024-03-02 --accept"):
        require(run_gate(row(v=0.5)), Run("ingest", nights, {}))
    with pytest.raises(GateFailed, match=r"--reason TEXT`, with the same delivery \(s3://bank\)"):
        require(run_gate(row(v=0.5)), Run("ingest", night, {"source": "s3://bank"}))
    with pytest.raises(GateFailed) as raised:
        require(run_gate(row(lost=1)), Run("ingest", None, {}))
    assert "--accept" not in str(raised.value)
