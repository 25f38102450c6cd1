"""The doctor finds what is wrong, finds nothing in a healthy lake, and never raises."""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs import doctor
from jobs.health.check_result import CheckResult, checked

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

DAY = date(2018, 8, 8)


def settings_of(lake: str = "", **changes: Any) -> Any:
    from jobs.runtime.settings import load_settings

    return load_settings(None, {"lake": lake, **changes})


def by_name(findings: list[CheckResult]) -> dict[str, CheckResult]:
    return {finding.name: finding for finding in findings}


def test_a_check_that_crashes_is_a_finding() -> None:
    def crash() -> CheckResult:
        raise RuntimeError("the disk sang\nand danced")

    found = checked("disk", crash)
    assert (found.status, found.found) == ("wrong", "RuntimeError: the disk sang")


def test_packages_lie_in_one_place() -> None:
    home, version, strays = doctor.installed()
    assert Path(home, "feature_defs").is_dir()
    assert version
    assert strays == ()


def test_no_java_is_wrong_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_java", lambda: None)
    found = doctor._java()
    assert found.status == "wrong"
    assert "make setup" in found.remedy


def test_brackets_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.show([CheckResult("x [red]", "wrong", "[bold]y[/bold]", "do [it]")])
    out = capsys.readouterr().out
    assert "[bold]y[/bold]" in out
    assert "do [it]" in out


def test_without_a_lake_the_machine_alone_is_examined() -> None:
    (found,) = doctor._examine_lake(None, settings_of())  # type: ignore[arg-type]
    assert (found.name, found.status) == ("lake", "ok")


@pytest.mark.spark
def test_a_folder_that_is_no_lake(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").touch()
    findings = by_name(doctor.examine(settings_of(str(tmp_path))))
    assert findings["Spark"].status == "ok"
    assert findings["executors"].status == "ok"
    assert findings["Java"].status == "ok"
    assert findings["lake"].status == "wrong"
    assert "not a lake" in findings["lake"].found
    assert findings["lake"].remedy
    assert "tables" not in findings
    assert spark.range(1).count() == 1, "the session that was there goes on"


@pytest.mark.spark
def test_a_healthy_lake(filled_lake: Lake) -> None:
    findings = by_name(doctor.examine(filled_lake.settings))
    # Its tables were filled without a model.
    assert [name for name, finding in findings.items() if finding.status == "wrong"] == ["registry"]
    assert findings["lake on executors"].status == "ok"
    assert findings["staging"].found == "empty"
    assert findings["logs"].status == findings["publications"].status == "ok"


@pytest.mark.spark
def test_a_lake_that_executors_do_not_see(spark: SparkSession) -> None:
    import fsspec

    from jobs.health.executor_checks import check_lake_visibility
    from jobs.lake.delta_io import Lake

    # A file system of this process alone: what a local folder is to another machine.
    fsspec.filesystem("memory").pipe("/blind/nights/part", b"row")
    found = check_lake_visibility(Lake(spark, settings_of("memory://blind")))
    assert found.status == "wrong"
    assert "finds nights in memory://blind" in found.found
    assert found.found.endswith(": nothing")
    assert "share" in found.remedy


@pytest.mark.spark
def test_what_dead_runs_and_late_rows_leave(filled_lake: Lake) -> None:
    from jobs.health import lake_checks, night_checks
    from jobs.lake.tables import TRANSACTIONS

    dead = Path(filled_lake.uri, "_staging", "features-dead")
    dead.mkdir(parents=True)
    os.utime(dead, (1_500_000_000, 1_500_000_000))
    shutil.rmtree(Path(filled_lake.uri, "metrics"))
    filled_lake.spark.sql(
        f"UPDATE delta.`{filled_lake.uri}/nights` SET holder = 'gone', "
        f"lease_until = TIMESTAMP'2018-08-08 05:00:00' WHERE business_date = DATE'{DAY}'"
    )
    assert night_checks.left_in_staging(filled_lake).status == "warning"
    assert "features-dead" in night_checks.left_in_staging(filled_lake).found
    assert lake_checks.tables(filled_lake).found == "metrics is missing"
    assert f"died in {DAY}" in night_checks.nights(filled_lake).found
    late = lake_checks.late_rows(filled_lake)
    expected = filled_lake.read(TRANSACTIONS).where("to_date(event_time) < business_date").count()
    assert expected > 0
    assert late.found.startswith(f"{expected} for published nights")


@pytest.mark.spark
def test_storage_where_two_commits_may_both_win_is_wrong(spark: SparkSession) -> None:
    from jobs.health import lake_checks
    from jobs.lake.delta_io import Lake

    lake = Lake(spark, settings_of("./here"))
    assert lake_checks.log_store(lake).status == "ok"
    lake.__dict__["uri"] = "s3a://bank/lake"
    found = lake_checks.log_store(lake)
    assert found.status == "wrong" and "spark.delta.logStore.s3a.impl" in (found.remedy or "")
    spark.conf.set("spark.delta.logStore.s3a.impl", "io.delta.storage.S3DynamoDBLogStore")
    try:
        assert lake_checks.log_store(lake).status == "ok"
    finally:
        spark.conf.unset("spark.delta.logStore.s3a.impl")
