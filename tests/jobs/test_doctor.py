"""`doctor` reports defects of machine and lake, none for a healthy lake, and never raises."""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs import doctor
from jobs.health import machine_checks
from jobs.health.check_result import CheckResult, run_check
from jobs.health.executor_checks import installed_packages

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

DAY = date(2018, 8, 8)


def settings_of(lake: str = "", **changes: Any) -> Any:
    from jobs.runtime.settings import load_settings

    return load_settings(None, {"lake": lake, **changes})


def by_name(results: list[CheckResult]) -> dict[str, CheckResult]:
    return {result.name: result for result in results}


def test_check_that_raises_is_reported_as_wrong() -> None:
    def crash() -> CheckResult:
        raise RuntimeError("first line\nsecond line")

    found = run_check("disk", crash)
    assert (found.status, found.found) == ("wrong", "RuntimeError: first line")


def test_installed_packages_are_in_one_folder() -> None:
    home, version, strays = installed_packages()
    assert Path(home, "feature_defs").is_dir()
    assert version
    assert strays == ()


def test_missing_java_is_wrong_and_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "find_java", lambda: None)
    found = machine_checks.check_java()
    assert found.status == "wrong"
    assert "make setup" in found.remedy


def test_markup_in_results_is_printed_literally(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.show([CheckResult("x [red]", "wrong", "[bold]y[/bold]", "do [it]")])
    out = capsys.readouterr().out
    assert "[bold]y[/bold]" in out
    assert "do [it]" in out


def test_without_a_lake_only_the_machine_is_checked() -> None:
    (found,) = doctor._examine_lake(None, settings_of())  # type: ignore[arg-type]
    assert (found.name, found.status) == ("lake", "ok")


@pytest.mark.spark
def test_folder_that_is_not_a_lake_is_wrong(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").touch()
    results = by_name(doctor.examine(settings_of(str(tmp_path))))
    assert results["Spark"].status == "ok"
    assert results["executors"].status == "ok"
    assert results["Java"].status == "ok"
    assert results["lake"].status == "wrong"
    assert "not a lake" in results["lake"].found
    assert results["lake"].remedy
    assert "tables" not in results
    assert spark.range(1).count() == 1, "the earlier session stays open"


@pytest.mark.spark
def test_healthy_lake_has_no_defect_but_its_registry(filled_lake: Lake) -> None:
    results = by_name(doctor.examine(filled_lake.settings))
    # The fixture fills the tables without a model.
    assert [name for name, result in results.items() if result.status == "wrong"] == ["registry"]
    assert results["lake on executors"].status == "ok"
    assert results["staging"].found == "empty"
    assert results["logs"].status == results["publications"].status == "ok"


@pytest.mark.spark
def test_lake_that_executors_cannot_see_is_wrong(spark: SparkSession) -> None:
    import fsspec

    from jobs.health.executor_checks import check_lake_visibility
    from jobs.lake.delta_io import Lake

    # A file system of this process only stands in for a local folder of another machine.
    fsspec.filesystem("memory").pipe("/blind/nights/part", b"row")
    found = check_lake_visibility(Lake(spark, settings_of("memory://blind")))
    assert found.status == "wrong"
    assert "finds nights in memory://blind" in found.found
    assert found.found.endswith(": nothing")
    assert "share" in found.remedy


@pytest.mark.spark
def test_leftovers_of_dead_runs_and_late_rows_are_reported(filled_lake: Lake) -> None:
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
    assert night_checks.check_staging(filled_lake).status == "warning"
    assert "features-dead" in night_checks.check_staging(filled_lake).found
    assert lake_checks.check_tables(filled_lake).found == "metrics is missing"
    assert f"died in {DAY}" in night_checks.check_nights(filled_lake).found
    late = lake_checks.check_late_rows(filled_lake)
    expected = filled_lake.read(TRANSACTIONS).where("to_date(event_time) < business_date").count()
    assert expected > 0
    assert late.found.startswith(f"{expected} for published nights")


@pytest.mark.spark
def test_storage_without_exclusive_commits_is_wrong(spark: SparkSession) -> None:
    from jobs.health import lake_checks
    from jobs.lake.delta_io import Lake

    lake = Lake(spark, settings_of("./here"))
    assert lake_checks.check_log_store(lake).status == "ok"
    lake.__dict__["uri"] = "s3a://bank/lake"
    found = lake_checks.check_log_store(lake)
    assert found.status == "wrong" and "spark.delta.logStore.s3a.impl" in (found.remedy or "")
    spark.conf.set("spark.delta.logStore.s3a.impl", "io.delta.storage.S3DynamoDBLogStore")
    try:
        assert lake_checks.check_log_store(lake).status == "ok"
    finally:
        spark.conf.unset("spark.delta.logStore.s3a.impl")
