"""Maintenance: what is dead is swept, what is small is compacted, what is in use is left alone."""

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
HOLDER = "hold-20240102T000000-abc123@elsewhere:1"


def versions(lake: Lake) -> dict[str, int]:
    from jobs.lake.tables import TABLES

    return lake.versions(TABLES.values())


def change_nights(lake: Lake, changes: str, where: str = "true") -> None:
    lake.spark.sql(f"UPDATE delta.`{lake.uri}/nights` SET {changes} WHERE {where}")


def close(lake: Lake) -> None:
    change_nights(lake, "state = 'done'")


def hold_night(lake: Lake, day: date) -> None:
    change_nights(
        lake,
        f"holder = '{HOLDER}', lease_until = current_timestamp() + INTERVAL 1 HOUR",
        f"business_date = DATE'{day}'",
    )


def scatter(lake: Lake, name: str) -> None:
    """Write a table's rows in three files a night."""
    from pyspark.sql import functions as F

    from jobs.lake.tables import TABLES

    rows = lake.read(TABLES[name]).repartition(3, F.rand(seed=1))
    rows.write.format("delta").mode("overwrite").save(f"{lake.uri}/{name}")


def files_of(lake: Lake, name: str, day: date) -> int:
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


def chores(lake: Lake) -> dict[str, Any]:
    from jobs import maintain

    return {f"{chore.about}: {chore.planned.split()[0]}": chore for chore in maintain.plan(lake)}


def test_what_is_staged_is_judged_by_whose_it_is(filled_lake: Lake) -> None:
    from jobs.lake import staging
    from jobs.models.model_store import has_model_of

    change_nights(
        filled_lake,
        "jobs = map_filter(jobs, (job, record) -> job NOT IN ('publish', 'alerts'))",
        f"business_date = DATE'{LAST}'",
    )
    names = {
        f"score-{LAST:%Y%m%d}T020000-abc123": ("scores that wait", False),
        f"score-{LAST - timedelta(days=1):%Y%m%d}T020000-abc123": ("ended", True),
        "features-20240101T000000-abcdef": ("ended", True),
        "features-20240103T000000-abcdef": ("at work", False),
        "train-0123456789abcdef": ("can go on", False),
        "train-fedcba9876543210": ("not resumed for", True),
        "nobody knows": ("ended", True),
    }
    hold_night(filled_lake, LAST)
    for name in names:
        stage(filled_lake, name, 30 if name == "train-fedcba9876543210" else 3)
    stage(filled_lake, "features-20240101T000000-aaaaaa", 0.5)
    found = {
        item.name: item for item in staging.examine(filled_lake, partial(has_model_of, filled_lake))
    }
    assert not found["features-20240101T000000-aaaaaa"].dead
    for name, (why, dead) in names.items():
        assert (found[name].dead, why in found[name].why) == (dead, True), found[name]
    # The holder is gone: what may have been its own is dead too.
    change_nights(filled_lake, "holder = NULL, lease_until = NULL")
    found = {
        item.name: item for item in staging.examine(filled_lake, partial(has_model_of, filled_lake))
    }
    assert found["features-20240103T000000-abcdef"].dead


@pytest.mark.slow
def test_a_registered_training_is_dead(filled_lake: Lake) -> None:
    from fraud_models.registry.mlflow_registry import Registration
    from jobs.lake import staging
    from jobs.models.model_store import has_model_of, open_registry

    stage(filled_lake, "train-0123456789abcdef", 3)
    open_registry(filled_lake).register(Registration("x", "y", "0123456789abcdef", {}, {}))
    (found,) = staging.examine(filled_lake, partial(has_model_of, filled_lake))
    assert found.dead
    assert "registered" in found.why


def test_a_dry_run_changes_nothing_and_a_run_does_what_it_said(
    filled_lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs import maintain
    from jobs.lake.tables import RUNS, SCORES, TRANSACTIONS

    lake = filled_lake
    close(lake)
    hold_night(lake, LAST)
    scatter(lake, "scores")
    dead = stage(lake, "features-20240101T000000-abcdef", 3)
    open_night = stage(lake, "features-20240103T000000-abcdef", 3)
    before, rows = versions(lake), lake.read(SCORES)
    planned = maintain.plan(lake)
    maintain.show(maintain.preview(planned))
    assert "_staging/features-20240101T000000-abcdef: sweep" in capsys.readouterr().out
    assert versions(lake) == before
    assert dead.exists()

    lines = {line.about: line.said for line in maintain.run(lake, planned)}
    maintain.show(maintain.run(lake, []))
    assert not dead.exists()
    assert open_night.exists()
    assert [files_of(lake, "scores", day) for day in DAYS[:3]] == [3, 1, 1]
    assert "small files became 11" in lines["scores"]
    now = lake.read(SCORES)
    assert now.exceptAll(rows).count() == rows.exceptAll(now).count() == 0
    # One commit per table, and none where nothing was to be gained.
    assert lake.version(SCORES) == before["scores"] + 1
    assert lake.version(TRANSACTIONS) == before["transactions"]
    newest = lake.delta_table(SCORES).history(1).collect()[0]
    assert newest["operation"] == "OPTIMIZE"
    record = lake.read(RUNS).where("job = 'maintain'").orderBy("started_at").collect()[0]
    assert record["run_id"] in newest["userMetadata"]
    assert record["status"] == "done"
    assert "small files became 11" in record["figures"]
    assert "scores: make" not in chores(lake)


def test_nights_are_left_alone_while_a_run_is_at_work(filled_lake: Lake) -> None:
    from jobs.lake.tables import NIGHTS

    close(filled_lake)
    scatter(filled_lake, "nights")
    planned = chores(filled_lake)["nights: make"]
    hold_night(filled_lake, LAST)
    before = filled_lake.version(NIGHTS)
    assert "a run is at work" in planned.do("maintain-1")
    assert filled_lake.version(NIGHTS) == before
    change_nights(filled_lake, "holder = NULL")
    scatter(filled_lake, "nights")
    assert "became 1" in planned.do("maintain-1")


def test_records_that_were_never_copied_are_copied_once(filled_lake: Lake) -> None:
    from jobs.health import night_checks
    from jobs.lake.tables import RUNS

    hold_night(filled_lake, LAST)
    assert night_checks.records(filled_lake).status == "warning"
    planned = chores(filled_lake)["runs: copy"]
    assert f"publish-{DAYS[1]:%Y%m%d}" in planned.do("maintain-1")
    assert filled_lake.read(RUNS).count() == 5 * 11
    assert "runs: copy" not in chores(filled_lake)
    assert night_checks.records(filled_lake).status == "ok"


def test_tables_keep_their_files_at_least_for_the_audit_horizon(filled_lake: Lake) -> None:
    from jobs.lake import retention
    from jobs.lake.tables import ALERTS, SCORES

    for table, days in ((SCORES, 30), (ALERTS, 4000)):
        filled_lake.spark.sql(
            f"ALTER TABLE delta.`{filled_lake.uri}/{table.name}` SET TBLPROPERTIES ("
            f"'delta.deletedFileRetentionDuration' = 'interval {days} days')"
        )
    assert retention.kept_days(filled_lake, SCORES) == 400
    assert retention.kept_days(filled_lake, ALERTS) == 4000
    assert retention.short_properties(filled_lake, ALERTS) == []
    chores(filled_lake)["scores: keep"].do("maintain-1")
    assert retention.short_properties(filled_lake, SCORES) == []
    filled_lake.spark.sql(
        f"ALTER TABLE delta.`{filled_lake.uri}/{ALERTS.name}` SET TBLPROPERTIES ("
        "'delta.deletedFileRetentionDuration' = 'interval 104 weeks 1 day 36 hours')"
    )
    assert retention.kept_days(filled_lake, ALERTS) == 104 * 7 + 2
    assert retention.short_properties(filled_lake, ALERTS) == []
    filled_lake.spark.sql(
        f"ALTER TABLE delta.`{filled_lake.uri}/{ALERTS.name}` SET TBLPROPERTIES ("
        "'delta.deletedFileRetentionDuration' = 'interval 4000 days')"
    )
    # The longer one stays.
    assert retention.expired(filled_lake, ALERTS, None).hours == 4000 * 24


def test_two_compactions_at_once_lose_nothing(filled_lake: Lake) -> None:
    from jobs.lake import compaction
    from jobs.lake.tables import SCORES

    scatter(filled_lake, "scores")
    before = filled_lake.read(SCORES).count()
    work = compaction.small_files(filled_lake, SCORES, DAYS)
    assert work is not None
    assert work.num_files == 36
    with ThreadPool(2) as pool:
        # A result that was an error raises here.
        pool.starmap(
            compaction.compact, [(filled_lake, work, f"run-{number}") for number in range(2)]
        )
    assert filled_lake.read(SCORES).count() == before
    assert files_of(filled_lake, "scores", LAST) == 1


# -- what the doctor finds -----------------------------------------------------------------------


def publish(lake: Lake, day: date, run_id: str) -> int:
    """Publish the alerts of a night again, as a job would."""
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


def test_a_publication_that_was_never_recorded(filled_lake: Lake) -> None:
    from jobs.health import night_checks

    assert night_checks.publications(filled_lake).status == "ok"
    version = publish(filled_lake, LAST, "alerts-20180809T030000-dead00")
    found = night_checks.publications(filled_lake)
    assert found.status == "wrong"
    assert f"alerts {LAST} by alerts-20180809T030000-dead00" in found.found
    assert str(LAST) in found.remedy
    # Its holder may be about to record it.
    hold_night(filled_lake, LAST)
    assert night_checks.publications(filled_lake).status == "ok"
    change_nights(filled_lake, "holder = NULL")
    # The rerun has published again and recorded that.
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
    assert night_checks.publications(filled_lake).status == "ok"


def test_gaps_between_finished_nights(filled_lake: Lake) -> None:
    from jobs.health import night_checks

    assert night_checks.gaps(filled_lake).found == "no night is done yet"
    close(filled_lake)
    assert night_checks.gaps(filled_lake).status == "ok"
    change_nights(filled_lake, "state = 'open'", f"business_date = DATE'{DAYS[3]}'")
    filled_lake.spark.sql(
        f"DELETE FROM delta.`{filled_lake.uri}/nights` WHERE business_date = DATE'{DAYS[5]}'"
    )
    found = night_checks.gaps(filled_lake)
    assert found.status == "warning"
    assert f"never begun: {DAYS[5]}" in found.found
    assert f"a later night is done: {DAYS[3]}" in found.found


def test_a_holder_whose_process_is_gone_is_dead_at_once(filled_lake: Lake) -> None:
    import subprocess
    import sys

    from jobs.health import night_checks
    from jobs.lake import night_state

    code = "from jobs.lake.lease_owners import new_lease_owner; print(new_lease_owner())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    hold_night(filled_lake, LAST)
    assert list(night_state.leased_nights(filled_lake)) == [LAST]
    assert "died" not in night_checks.nights(filled_lake).found
    change_nights(filled_lake, f"holder = '{done.stdout.strip()}'", "holder IS NOT NULL")
    assert night_state.leased_nights(filled_lake) == {}
    assert f"died in {LAST}" in night_checks.nights(filled_lake).found


def test_a_registry_that_is_gone(filled_lake: Lake) -> None:
    from jobs.health import lake_checks

    found = lake_checks.registry(filled_lake)
    assert found.status == "wrong"
    assert "gone" in found.found


@pytest.mark.slow
def test_a_champion_without_its_checkpoint(make_lake: Callable[..., Lake]) -> None:
    from fraud_models.registry.mlflow_registry import CHAMPION, Registration
    from jobs.health import lake_checks
    from jobs.models.model_store import open_registry

    lake = make_lake()
    assert lake_checks.registry(lake).status == "warning"
    registry = open_registry(lake)
    uri = lake.path("_models", "a")
    registry.set_alias(CHAMPION, registry.register(Registration(uri, "y", "a", {}, {})))
    found = lake_checks.registry(lake)
    assert found.status == "wrong"
    assert "has no checkpoint.json" in found.found
