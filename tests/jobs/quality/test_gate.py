"""A gate passes only what it has seen to hold: failed, crashed and empty gates stop the night."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import great_expectations.expectations as gxe
import pytest

from feature_defs.errors import GateFailed
from jobs.lake.dates import Dates
from jobs.lake.runs import Run
from jobs.quality.gate import Expectation, GateResult, judged, require, validate
from jobs.quality.overrides import GATES, GateOverride

GATE = GATES["ingest"]
DAY = date(2024, 3, 1)
WISH = GateOverride(GATE, "bank holiday", "ada")


def expectations(column: str = "v", **changes: Any) -> list[Expectation]:
    none_lost = gxe.ExpectColumnValuesToBeBetween(column="lost", min_value=0, max_value=0)
    large = gxe.ExpectColumnValuesToBeBetween(column=column, min_value=1)
    return [
        Expectation("none_lost", "none is lost", none_lost, "{lost} lost", kind="conservation"),
        Expectation("v_large", "v is large", large, "v is {v}", **changes),
    ]


def judge(*rows: dict[str, Any], **changes: Any) -> GateResult:
    return validate(GATE, expectations(**changes), rows, "night")


def row(night: str = "monday", lost: int = 0, v: float | None = 2.0) -> dict[str, Any]:
    return {"night": night, "lost": lost, "v": v}


def seen(result: GateResult) -> dict[str, tuple[str, str]]:
    return {check.name: (check.status, check.observed) for check in result.checks}


def test_what_holds_passes_and_what_does_not_stops_by_name() -> None:
    assert judge(row()).passed
    assert seen(judge(row()))["v_large"] == ("passed", "v is 2.0")
    failed = judge(row(), row("tuesday", lost=3, v=0.5), row("sunday", lost=1))
    assert seen(failed) == {
        "none_lost": ("failed", "tuesday: 3 lost; sunday: 1 lost"),
        "v_large": ("failed", "tuesday: v is 0.5"),
    }
    run = Run("ingest", None, {})
    with pytest.raises(GateFailed, match=r"none is lost .*v is large"):
        require(failed, run)
    assert run.gates == [failed.as_record()]


def test_many_failing_nights_are_counted_and_some_named() -> None:
    result = judge(*(row(f"night {nth}", lost=1) for nth in range(9)))
    status, observed = seen(result)["none_lost"]
    assert status == "failed"
    assert "night 4: 1 lost; and 4 more" in observed
    assert "night 5" not in observed


def test_a_warning_is_told_and_does_not_stop() -> None:
    result = judge(row(v=0.0), severity="warn")
    assert result.passed
    assert seen(result)["v_large"][0] == "failed"


def test_a_crashed_check_is_a_failed_gate_with_its_own_words() -> None:
    result = judge(row(), column="nowhere")
    assert not result.passed
    status, observed = seen(result)["v_large"]
    assert status == "crashed"
    assert "nowhere" in observed
    assert seen(result)["none_lost"][0] == "passed"
    with pytest.raises(GateFailed, match=r"v_large: crashed, .*nowhere"):
        require(result, Run("ingest", None, {}))


@pytest.mark.spark
def test_rows_that_cannot_be_counted_are_a_failed_gate_with_sparks_words(
    spark: Any, tmp_path: Any
) -> None:
    place = tmp_path / "staged"
    spark.range(3).write.parquet(str(place))
    frame = spark.read.parquet(str(place))
    for part in place.glob("part-*.parquet"):
        part.write_bytes(b"no parquet")
    # Spark keeps a checksum beside each file; without it the file itself is found to be damaged.
    for checksum in place.glob(".*.crc"):
        checksum.unlink()

    def count() -> GateResult:
        return judge(row(lost=frame.agg({"id": "max"}).collect()[0][0]))

    result = judged(GATE, count)
    assert not result.passed
    (status, observed) = seen(result)["facts_counted"]
    assert status == "crashed"
    assert "part-" in observed


def test_a_fact_that_is_not_known_fails_unless_the_check_says_otherwise() -> None:
    assert seen(judge(row(v=None)))["v_large"] == ("failed", "monday: not known")
    assert seen(judge(row(), row("tuesday", v=None)))["v_large"] == (
        "failed",
        "tuesday: not known",
    )
    assert judge(row(v=None), unknown="holds").passed
    undecided = judge(row(v=None), unknown="undecided", undecided="too few nights")
    assert seen(undecided)["v_large"] == ("not applicable", "too few nights")
    assert undecided.passed
    assert seen(judge(row(v=None), row(v=0.5), unknown="undecided"))["v_large"][0] == "failed"


def test_a_gate_without_checks_decides_nothing() -> None:
    with pytest.raises(GateFailed, match="nothing to check"):
        require(GateResult(GATE, ()), Run("ingest", None, {}))
    with pytest.raises(GateFailed, match="nothing to check"):
        require(GateResult(GATE, ()), Run("ingest", None, {}), WISH)


# -- overruling ------------------------------------------------------------------------------------


def test_an_overruled_gate_lets_the_job_go_on_and_says_who_and_why() -> None:
    run = Run("ingest", None, {})
    require(judge(row(v=0.5)), run, WISH)
    (record,) = run.gates
    assert not record["passed"]
    assert record["accepted"] == {"reason": "bank holiday", "actor": "ada", "outcome": "overruled"}


def test_a_needless_wish_is_recorded_as_such() -> None:
    run = Run("ingest", None, {})
    require(judge(row()), run, WISH)
    assert run.gates[0]["accepted"]["outcome"] == "not needed"
    assert run.gates[0]["passed"]


@pytest.mark.parametrize("kind", ["conservation", "schema"])
def test_nobody_overrules_conservation_or_schema(kind: Any) -> None:
    run = Run("ingest", None, {})
    with pytest.raises(GateFailed, match=r"nobody overrules conservation or schema \(v_large\)"):
        require(judge(row(v=0.5), kind=kind), run, WISH)
    assert run.gates[0]["accepted"]["outcome"] == "refused"


def test_one_guarded_check_among_others_refuses_the_whole_wish() -> None:
    run = Run("ingest", None, {})
    with pytest.raises(GateFailed, match=r"schema \(none_lost\)"):
        require(judge(row(lost=1, v=0.5)), run, WISH)
    assert run.gates[0]["accepted"]["outcome"] == "refused"


def test_a_crash_of_a_check_that_may_be_overruled_may_be_overruled() -> None:
    run = Run("ingest", None, {})
    require(judge(row(), column="nowhere"), run, WISH)
    assert run.gates[0]["accepted"]["outcome"] == "overruled"


def test_the_way_out_is_told_where_there_is_one() -> None:
    with pytest.raises(GateFailed, match="ingest --accept delivery --reason TEXT"):
        require(judge(row(v=0.5)), Run("ingest", None, {}))
    night, nights = Dates(DAY, DAY), Dates(DAY, DAY + timedelta(days=1))
    with pytest.raises(GateFailed, match="`ingest --date 2024-03-01 --accept delivery"):
        require(judge(row(v=0.5)), Run("ingest", night, {}))
    with pytest.raises(GateFailed, match="`ingest --from 2024-03-01 --to 2024-03-02 --accept"):
        require(judge(row(v=0.5)), Run("ingest", nights, {}))
    with pytest.raises(GateFailed, match=r"--reason TEXT`, with the same delivery \(s3://bank\)"):
        require(judge(row(v=0.5)), Run("ingest", night, {"source": "s3://bank"}))
    with pytest.raises(GateFailed) as raised:
        require(judge(row(lost=1)), Run("ingest", None, {}))
    assert "--accept" not in str(raised.value)
