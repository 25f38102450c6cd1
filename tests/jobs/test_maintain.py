"""Maintenance: sweeping dead staging, compaction, retention, and what `doctor` reports."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

pytestmark = pytest.mark.spark

LAST = date(2018, 8, 8)
DAYS = [LAST - timedelta(days=number) for number in range(12)]
OWNER = "hold-20240102T000000-abc123@elsewhere:1"


def versions(lake: Lake) -> dict[str, int]:
    from jobs.lake.tables import TABLES

    return lake.versions(TABLES.values())


def change_nights(lake: Lake, changes: str, where: str = "true") -> None:
    lake.spark.sql(f"UPDATE delta.`{lake.uri}/nights` SET {changes} WHERE {where}")


def finish_all_nights(lake: Lake) -> None:
    change_nights(lake, "state = 'done'")


def lease_night(lake: Lake, day: date) -> None:
    change_nights(
        lake,
        f"holder = '{OWNER}', lease_until = current_timestamp() + INTERVAL 1 HOUR",
        f"business_date = DATE'{day}'",
    )


def write_small_files(lake: Lake, name: str) -> None:
    """Rewrite a table with three files per night."""
    from pyspark.sql import functions as F

    from jobs.lake.tables import TABLES

    rows = lake.read(TABLES[name]).repartition(3, F.rand(seed=1))
    rows.write.format("delta").mode("overwrite").save(f"{lake.uri}/{name}")


def num_files(lake: Lake, name: str, day: date) -> int:
    from jobs.lake.tables import TABLES

    rows = lake.read(TABLES[name]).where(f"business_date = DATE'{day}'")
    return rows.select("_metadata.file_path").distinct().count()


def stage(lake: Lake, name: str, days_ago: float) -> Path:
    place = Path(lake.uri, "_staging", name, "features")
    place.mkdir(parents=True)
    file = place / "part-0.parquet"
    file.write_bytes(b"x")
    moment = time.time() - 86_400 * days_ago
    for path in (file, place, place.parent):
        os.utime(path, (moment, moment))
    return place.parent


def tasks(lake: Lake) -> dict[str, Any]:
    from jobs import maintain

    return {f"{task.target}: {task.planned.split()[0]}": task for task in maintain.plan(lake)}


def test_staged_folder_is_dead_if_no_run_needs_it(filled_lake: Lake) -> None:
    from jobs.lake import staging
    from jobs.models.model_store import has_model_of

    change_nights(
        filled_lake,
        "jobs = map_filter(jobs, (job, record) -> job NOT IN ('publish', 'alerts'))",
        f"business_date = DATE'{LAST}'",
    )
    names = {
        f"score-{LAST:%Y%m%d}T020000-abc123": ("unpublished scores", False),
        f"score-{LAST - timedelta(days=1):%Y%m%d}T020000-abc123": ("left by a run", True),
        "features-20240101T000000-abcdef": ("left by a run", True),
        "features-20240103T000000-abcdef": ("running job", False),
        "train-0123456789abcdef": ("can be resumed", False),
        "train-fedcba9876543210": ("not resumed for", True),
        "unknown": ("left by a run", True),
    }
    lease_night(filled_lake, LAST)
    for name in names:
        stage(filled_lake, name, 30 if name == "train-fedcba9876543210" else 3)
    stage(filled_lake, "features-20240101T000000-aaaaaa", 0.5)
    folders = {
        item.name: item for item in staging.examine(filled_lake, partial(has_model_of, filled_lake))
    }
    assert not folders["features-20240101T000000-aaaaaa"].dead
    for name, (why, dead) in names.items():
        assert (folders[name].dead, why in folders[name].why) == (dead, True), folders[name]
    # Without a lease owner, the folder that may have been in use is dead too.
    change_nights(filled_lake, "holder = NULL, lease_until = NULL")
    folders = {
        item.name: item for item in staging.examine(filled_lake, partial(has_model_of, filled_lake))
    }
    assert folders["features-20240103T000000-abcdef"].dead


@pytest.mark.slow
def test_staging_of_a_registered_training_is_dead(filled_lake: Lake) -> None:
    from fraud_models.registry.mlflow_registry import Registration
    from jobs.lake import staging
    from jobs.models.model_store import has_model_of, open_registry

    stage(filled_lake, "train-0123456789abcdef", 3)
    open_registry(filled_lake).register(Registration("x", "y", "0123456789abcdef", {}, {}))
    (folder,) = staging.examine(filled_lake, partial(has_model_of, filled_lake))
    assert folder.dead
    assert "registered" in folder.why


# Slow: compacts and vacuums all nine tables.
def test_dry_run_changes_nothing_and_run_executes_the_plan(
    filled_lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import maintain
    from jobs.lake.tables import RUNS, SCORES, TRANSACTIONS

    lake = filled_lake
    finish_all_nights(lake)
    lease_night(lake, LAST)
    write_small_files(lake, "scores")
    dead = stage(lake, "features-20240101T000000-abcdef", 3)
    open_night = stage(lake, "features-20240103T000000-abcdef", 3)
    before, rows = versions(lake), lake.read(SCORES)
    planned = maintain.plan(lake)
    maintain.show(maintain.preview(planned))
    assert "_staging/features-20240101T000000-abcdef: delete" in capsys.readouterr().out
    assert versions(lake) == before
    assert dead.exists()

    lines = {line.target: line.outcome for line in maintain.run(lake, planned)}
    maintain.show(maintain.run(lake, []))
    assert not dead.exists()
    assert open_night.exists()
    assert [num_files(lake, "scores", day) for day in DAYS[:3]] == [3, 1, 1]
    assert "small files became 11" in lines["scores"]
    now = lake.read(SCORES)
    assert now.exceptAll(rows).count() == rows.exceptAll(now).count() == 0
    # One commit per compacted table, and no commit for other tables.
    assert lake.version(SCORES) == before["scores"] + 1
    assert lake.version(TRANSACTIONS) == before["transactions"]
    newest = lake.delta_table(SCORES).history(1).collect()[0]
    assert newest["operation"] == "OPTIMIZE"
    record = lake.read(RUNS).where("job = 'maintain'").orderBy("started_at").collect()[0]
    assert record["run_id"] in newest["userMetadata"]
    assert record["status"] == "done"
    assert "small files became 11" in record["figures"]
    assert "scores: compact" not in tasks(lake)


def test_nights_table_is_not_compacted_while_a_night_is_leased(filled_lake: Lake) -> None:
    from jobs.lake.tables import NIGHTS

    finish_all_nights(filled_lake)
    write_small_files(filled_lake, "nights")
    planned = tasks(filled_lake)["nights: compact"]
    lease_night(filled_lake, LAST)
    before = filled_lake.version(NIGHTS)
    assert "a run is at work" in planned.do("maintain-1")
    assert filled_lake.version(NIGHTS) == before
    change_nights(filled_lake, "holder = NULL")
    write_small_files(filled_lake, "nights")
    assert "became 1" in planned.do("maintain-1")


# Slow: two runs of `maintain` over all nine tables.
def test_uncopied_run_records_are_copied_once(filled_lake: Lake) -> None:
    from jobs.health import night_checks
    from jobs.lake.tables import RUNS

    lease_night(filled_lake, LAST)
    assert night_checks.check_run_records(filled_lake).status == "warning"
    planned = tasks(filled_lake)["runs: copy"]
    assert f"publish-{DAYS[1]:%Y%m%d}" in planned.do("maintain-1")
    assert filled_lake.read(RUNS).count() == 5 * 11
    assert "runs: copy" not in tasks(filled_lake)
    assert night_checks.check_run_records(filled_lake).status == "ok"


def test_retention_is_at_least_the_audit_horizon(filled_lake: Lake) -> None:
    from jobs.lake import retention
    from jobs.lake.tables import ALERTS, SCORES

    for table, days in ((SCORES, 30), (ALERTS, 4000)):
        filled_lake.spark.sql(
            f"ALTER TABLE delta.`{filled_lake.uri}/{table.name}` SET TBLPROPERTIES ("
            f"'delta.deletedFileRetentionDuration' = 'interval {days} days')"
        )
    assert retention.retention_days(filled_lake, SCORES) == 400
    assert retention.retention_days(filled_lake, ALERTS) == 4000
    assert retention.short_properties(filled_lake, ALERTS) == []
    tasks(filled_lake)["scores: keep"].do("maintain-1")
    assert retention.short_properties(filled_lake, SCORES) == []
    filled_lake.spark.sql(
        f"ALTER TABLE delta.`{filled_lake.uri}/{ALERTS.name}` SET TBLPROPERTIES ("
        "'delta.deletedFileRetentionDuration' = 'interval 104 weeks 1 day 36 hours')"
    )
    assert retention.retention_days(filled_lake, ALERTS) == 104 * 7 + 2
    assert retention.short_properties(filled_lake, ALERTS) == []
    filled_lake.spark.sql(
        f"ALTER TABLE delta.`{filled_lake.uri}/{ALERTS.name}` SET TBLPROPERTIES ("
        "'delta.deletedFileRetentionDuration' = 'interval 4000 days')"
    )
    # The property is longer than the setting, so it applies.
    assert retention.expired(filled_lake, ALERTS, None).hours == 4000 * 24


def test_concurrent_compactions_lose_no_rows(filled_lake: Lake) -> None:
    from jobs.lake import compaction
    from jobs.lake.tables import SCORES

    write_small_files(filled_lake, "scores")
    before = filled_lake.read(SCORES).count()
    work = compaction.small_files(filled_lake, SCORES, DAYS)
    assert work is not None
    assert work.num_files == 36
    with ThreadPool(2) as pool:
        # `starmap` raises the error of a failed compaction.
        pool.starmap(
            compaction.compact, [(filled_lake, work, f"run-{number}") for number in range(2)]
        )
    assert filled_lake.read(SCORES).count() == before
    assert num_files(filled_lake, "scores", LAST) == 1


# -- what `doctor` reports -----------------------------------------------------------------------


def publish(lake: Lake, day: date, run_id: str) -> int:
    """Publish the alerts of a night again, like the job `alerts`, but do not record it."""
    from jobs.lake.tables import ALERTS

    rows = lake.read(ALERTS).where(f"business_date = DATE'{day}'").localCheckpoint()
    (
        rows.write.format("delta")
        .mode("overwrite")
        .option("replaceWhere", f"business_date = DATE'{day}'")
        .option("userMetadata", f'{{"run_id": "{run_id}"}}')
        .save(f"{lake.uri}/alerts")
    )
    return lake.version(ALERTS)


def test_doctor_reports_an_unrecorded_publication(filled_lake: Lake) -> None:
    from jobs.health import night_checks

    assert night_checks.check_publications(filled_lake).status == "ok"
    version = publish(filled_lake, LAST, "alerts-20180809T030000-dead00")
    result = night_checks.check_publications(filled_lake)
    assert result.status == "wrong"
    assert f"alerts {LAST} by alerts-20180809T030000-dead00" in result.found
    assert str(LAST) in result.remedy
    # While the night is leased, its owner may still record the publication.
    lease_night(filled_lake, LAST)
    assert night_checks.check_publications(filled_lake).status == "ok"
    change_nights(filled_lake, "holder = NULL")
    # A rerun publishes again and records it.
    known = "get_json_object(jobs['alerts'], '$.run_id')"
    record = (
        "replace(jobs['alerts'], '\"versions_out\": {}', "
        f'\'"versions_out": {{"alerts": {version + 1}}}\')'
    )
    change_nights(
        filled_lake,
        f"jobs = map_concat(map_filter(jobs, (k, v) -> k != 'alerts'), map('alerts', {record}))",
        f"business_date = DATE'{LAST}' AND {known} IS NOT NULL",
    )
    publish(filled_lake, LAST, f"alerts-{LAST:%Y%m%d}T020000-abc123")
    assert night_checks.check_publications(filled_lake).status == "ok"


def test_doctor_reports_gaps_between_finished_nights(filled_lake: Lake) -> None:
    from jobs.health import night_checks

    assert night_checks.check_gaps(filled_lake).found == "no night is done yet"
    finish_all_nights(filled_lake)
    assert night_checks.check_gaps(filled_lake).status == "ok"
    change_nights(filled_lake, "state = 'open'", f"business_date = DATE'{DAYS[3]}'")
    filled_lake.spark.sql(
        f"DELETE FROM delta.`{filled_lake.uri}/nights` WHERE business_date = DATE'{DAYS[5]}'"
    )
    result = night_checks.check_gaps(filled_lake)
    assert result.status == "warning"
    assert f"never begun: {DAYS[5]}" in result.found
    assert f"a later night is done: {DAYS[3]}" in result.found


def test_doctor_reports_the_lease_of_a_dead_process(filled_lake: Lake) -> None:
    import subprocess
    import sys

    from jobs.health import night_checks
    from jobs.lake import night_state

    code = "from jobs.lake.lease_owners import new_lease_owner; print(new_lease_owner())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lease_night(filled_lake, LAST)
    assert list(night_state.leased_nights(filled_lake)) == [LAST]
    assert "died" not in night_checks.check_nights(filled_lake).found
    change_nights(filled_lake, f"holder = '{done.stdout.strip()}'", "holder IS NOT NULL")
    assert night_state.leased_nights(filled_lake) == {}
    assert f"died in {LAST}" in night_checks.check_nights(filled_lake).found


def test_doctor_reports_a_missing_registry(filled_lake: Lake) -> None:
    from jobs.health import lake_checks

    result = lake_checks.check_registry(filled_lake)
    assert result.status == "wrong"
    assert "missing" in result.found


@pytest.mark.slow
def test_doctor_reports_a_champion_without_checkpoint(make_lake: Callable[..., Lake]) -> None:
    from fraud_models.registry.mlflow_registry import CHAMPION, Registration
    from jobs.health import lake_checks
    from jobs.models.model_store import open_registry

    lake = make_lake()
    assert lake_checks.check_registry(lake).status == "warning"
    registry = open_registry(lake)
    uri = lake.path("_models", "a")
    registry.set_alias(CHAMPION, registry.register(Registration(uri, "y", "a", {}, {})))
    result = lake_checks.check_registry(lake)
    assert result.status == "wrong"
    assert "has no checkpoint.json" in result.found
