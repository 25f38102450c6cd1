"""Audits: an old score is reproduced after maintenance, a changed score is not."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from feature_defs.errors import InputMissing
from jobs.runtime.settings import load_settings
from tests.command_line import run_command_on

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

pytestmark = [
    pytest.mark.faults,
    pytest.mark.spark,
    pytest.mark.distributed,
    pytest.mark.slow,
]

FIRST = date(2024, 1, 1)
NUM_CARDS, NUM_DAYS = 20, 106
AUDITED = FIRST + timedelta(days=44)
LAST = FIRST + timedelta(days=NUM_DAYS - 1)
AS_OF = AUDITED - timedelta(days=15)
AGE_DAYS, OLDER_DAYS = (LAST - AUDITED).days, 450


def open_at(spark: SparkSession, place: Path) -> Lake:
    from jobs.lake.delta_io import Lake

    return Lake(spark, load_settings(None, {"lake": str(place), "alert_budget": 3}))


@dataclass(frozen=True)
class TableVersions:
    """The versions of all tables at one point of the preparation."""

    versions: dict[str, int]

    @staticmethod
    def of(lake: Lake) -> TableVersions:
        from jobs.lake.tables import TABLES

        return TableVersions(lake.versions(TABLES.values()))


@dataclass(frozen=True)
class History:
    """A lake, and its versions after its history and after its audited night."""

    place: Path
    history: TableVersions
    audited: TableVersions


@pytest.fixture(scope="module")
def prepared(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> History:
    """Prepare a lake with history, a champion, the audited night and 61 later nights."""
    from fraud_models.recipes import recipe
    from fraud_models.registry.mlflow_registry import CHAMPION
    from jobs import features, ingest, nightly, train
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.models.model_store import open_registry
    from jobs.models.training_plan import TrainingPlan
    from jobs.simulate import simulate
    from jobs.simulation.plan import SimulationPlan

    place = tmp_path_factory.mktemp("long")
    bank = place / "bank"
    simulate(spark, SimulationPlan(str(bank), NUM_CARDS, NUM_DAYS, seed=3, first_day=FIRST))
    delivery = Delivery(str(bank), "parquet", load_mapping("simulated"))
    lake = open_at(spark, place / "lake")
    lake.create()
    before = Dates(FIRST, AUDITED - timedelta(days=1))
    with lease_nights(lake, before) as night:
        ingest.run(night, delivery)
        features.run(night)
    # Features are built twice, so the files of the first run expire after the horizon.
    with lease_nights(lake, before) as night:
        features.run(night)
    history = TableVersions.of(lake)
    config = recipe("lstm_autoencoder")
    quick = replace(config.optimisation, epochs=1, batch_size=16)
    config = replace(config, train_days=21, optimisation=quick)
    version = train.run(lake, TrainingPlan(AS_OF, "lstm_autoencoder", config, 1))
    open_registry(lake).set_alias(CHAMPION, version)
    # Without adaptive planning a night has several files, as on a cluster.
    nightly.run(lake, AUDITED)
    audited = TableVersions.of(lake)
    with lease_nights(lake, Dates(AUDITED + timedelta(days=1), LAST - timedelta(days=1))) as night:
        ingest.run(night, delivery)
        features.run(night)
    nightly.run(lake, LAST)
    return History(place / "lake", history, audited)


def aged_copy(source: History, place: Path) -> Path:
    """Copy a lake so that its audited night is 61 days old and its history precedes the horizon."""
    from jobs.lake.tables import TABLES

    shutil.copytree(source.place, place)
    for table in TABLES:
        log = place / table / "_delta_log"
        for pattern in ("*.checkpoint*", "_last_checkpoint", "*.crc", ".*.crc"):
            # A file may match two patterns and be deleted already.
            for path in log.glob(pattern):
                path.unlink(missing_ok=True)
        for entry in log.glob("*.json"):
            _age_entry(entry, source, table)
    return place


def _age_entry(entry: Path, source: History, table: str) -> None:
    number = int(entry.stem)
    days = 0
    if number <= source.audited.versions[table]:
        days = AGE_DAYS
    if number <= source.history.versions[table]:
        days = OLDER_DAYS
    earlier = 86_400 * days
    lines = []
    for line in entry.read_text().splitlines():
        action = json.loads(line)
        for kind, key in (("commitInfo", "timestamp"), ("remove", "deletionTimestamp")):
            if key in action.get(kind, {}):
                action[kind][key] -= 1000 * earlier
        if "add" in action:
            action["add"]["modificationTime"] -= 1000 * earlier
            file = entry.parent.parent / action["add"]["path"]
            if file.exists():
                os.utime(file, (file.stat().st_mtime - earlier,) * 2)
        lines.append(json.dumps(action))
    changed = entry.stat().st_mtime
    entry.write_text("\n".join(lines) + "\n")
    os.utime(entry, (changed - earlier,) * 2)


def age_runs(lake: Lake, days: int) -> None:
    """Date the runs and nights of the history back by some days."""
    for table in ("runs", "nights"):
        changed = "finished_at" if table == "runs" else "updated_at"
        first = "first_date" if table == "runs" else "business_date"
        lake.spark.sql(
            f"UPDATE delta.`{lake.uri}/{table}` SET {changed} = {changed} - INTERVAL {days} DAYS "
            f"WHERE {first} < DATE'{AUDITED}'"
        )


@pytest.fixture(scope="module")
def maintained(
    spark: SparkSession, prepared: History, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Any], set[Path]]:
    """Maintain an aged copy of the lake; return its path, the results and the deleted files."""
    from jobs import maintain

    lake = open_at(spark, aged_copy(prepared, tmp_path_factory.mktemp("kept") / "lake"))
    age_runs(lake, OLDER_DAYS)
    before = {path for path in Path(lake.uri).rglob("*.parquet") if "_delta_log" not in path.parts}
    began = time.time()
    lines = maintain.run(lake, maintain.plan(lake))
    print(f"maintain took {time.time() - began:.0f} s")
    maintain.show(lines)
    return Path(lake.uri), lines, {path for path in before if not path.exists()}


def top_score(lake: Lake, day: date = AUDITED) -> str:
    from jobs.lake.tables import SCORES

    rows = lake.read(SCORES).where(f"business_date = '{day}'").orderBy("score", ascending=False)
    row = rows.head()
    assert row is not None
    return str(row["transaction_id"])


def test_old_score_is_reproduced_after_maintenance(
    spark: SparkSession, maintained: tuple[Path, list[Any], set[Path]]
) -> None:
    from jobs import explain

    place, lines, deleted = maintained
    results = [f"{line.target}: {line.outcome}" for line in lines]
    for name in ("features", "scores", "nights"):
        assert any(line.startswith(f"{name}: ") and "became" in line for line in results), results
    assert any(line.startswith("features: deleted") for line in results), results
    # The files that MERGEs replaced in `nights` are as old as the first features.
    assert {path.relative_to(place).parts[0] for path in deleted} == {"features", "nights"}
    lake = open_at(spark, place)
    explanation, audit = explain.audit(lake, top_score(lake))
    explain.show(explanation)
    audit.show()
    assert audit.reproduced
    assert {check.what for check in audit.checks} >= {
        "published row",
        "definitions",
        "features",
        "model",
        "reconstruction error",
        "score",
        "alert",
    }


def test_maintenance_keeps_every_pinned_version(
    spark: SparkSession, maintained: tuple[Path, list[Any], set[Path]], prepared: History
) -> None:
    from jobs.lake.runs import Run
    from jobs.lake.tables import NIGHTS, RUNS, TABLES

    lake, original = open_at(spark, maintained[0]), open_at(spark, prepared.place)
    since = datetime.now(UTC) - timedelta(days=lake.settings.audit_days)
    pinned: set[tuple[str, int]] = set()
    for row in original.read(NIGHTS).collect():
        pinned |= set(row["pins"].items())
        for text in row["jobs"].values():
            pinned |= set(Run.from_json(text).versions_in.items())
    for row in lake.read(RUNS).where(f"finished_at > TIMESTAMP'{since:%Y-%m-%d}'").collect():
        pinned |= set(row["versions_in"].items())
    assert len(pinned) > 8
    for name, version in sorted(pinned):
        table = TABLES[name]
        wanted = original.read(table, version)
        assert lake.read(table, version).exceptAll(wanted).count() == 0, (name, version)
        assert wanted.exceptAll(lake.read(table, version)).count() == 0, (name, version)


def test_maintenance_keeps_the_rows_of_all_tables(
    spark: SparkSession, maintained: tuple[Path, list[Any], set[Path]], prepared: History
) -> None:
    from jobs.lake.tables import TABLES

    lake, original = open_at(spark, maintained[0]), open_at(spark, prepared.place)
    for table in TABLES.values():
        if table.name not in ("runs", "nights"):
            assert lake.read(table).count() == original.read(table).count() > 0 or (
                table.name in ("quarantine", "metrics")
            )


@pytest.fixture
def maintained_copy(
    spark: SparkSession, maintained: tuple[Path, list[Any], set[Path]], tmp_path: Path
) -> Lake:
    """Return a copy of the maintained lake, to be changed by a test."""
    shutil.copytree(maintained[0], tmp_path / "lake")
    return open_at(spark, tmp_path / "lake")


def test_changed_score_is_not_reproduced(spark: SparkSession, maintained_copy: Lake) -> None:
    from jobs import explain

    lake, place = maintained_copy, maintained_copy.uri
    changed = top_score(lake)
    spark.sql(
        f"UPDATE delta.`{place}/scores` SET reconstruction_error = reconstruction_error * 1.0001 "
        f"WHERE transaction_id = '{changed}'"
    )
    _, audit = explain.audit(lake, changed)
    assert not audit.reproduced
    assert [check.what for check in audit.checks if not check.reproduced] == [
        "published row",
        "reconstruction error",
    ]
    done = run_command_on(spark, "explain", "--lake", place, changed, "--as-published")
    assert done.returncode == 3, done.stderr
    assert "NOT REPRODUCED" in done.stdout


def test_changed_features_are_not_reproduced(spark: SparkSession, maintained_copy: Lake) -> None:
    """The run has recorded the changed version, as if the features were wrong from the start."""
    from jobs import explain
    from jobs.lake.tables import FEATURES_TABLE

    lake, place = maintained_copy, maintained_copy.uri
    changed = top_score(lake)
    spark.sql(
        f"UPDATE delta.`{place}/features` SET card_count_7d = card_count_7d + 1 "
        f"WHERE transaction_id = '{changed}'"
    )
    version = lake.version(FEATURES_TABLE)
    for column in ("versions_in", "versions_out"):
        spark.sql(
            f"UPDATE delta.`{place}/runs` SET {column} = map_concat(map_filter({column}, "
            f"(k, v) -> k != 'features'), map('features', {version}L)) "
            f"WHERE first_date = DATE'{AUDITED}' AND map_contains_key({column}, 'features')"
        )
    _, audit = explain.audit(lake, changed)
    wrong = {check.what: check.found for check in audit.checks if not check.reproduced}
    assert "card_count_7d" in wrong["features"]


def test_audit_with_a_missing_file_becomes_input_missing(
    spark: SparkSession, maintained_copy: Lake
) -> None:
    from jobs import explain
    from jobs.lake.errors import translate

    lake, place = maintained_copy, maintained_copy.uri
    scored = top_score(lake)
    for path in (Path(place) / "features" / f"business_date={AUDITED}").glob("*.parquet"):
        path.unlink()
    with pytest.raises(Exception, match="does not exist") as raised:
        explain.audit(lake, scored)
    problem = translate(raised.value)
    assert isinstance(problem, InputMissing)
    assert problem.exit_code == 4
    assert "`features`" in problem.found


def test_score_is_explained_from_its_own_run_after_pins_moved(
    spark: SparkSession, maintained_copy: Lake
) -> None:
    """Later pins of the night do not change what its score was computed from."""
    from jobs import explain

    spark.sql(
        f"UPDATE delta.`{maintained_copy.uri}/nights` "
        "SET pins = map('features', 0L, 'transactions', 0L), "
        f"jobs = map() WHERE business_date = DATE'{AUDITED}'"
    )
    lake = maintained_copy
    assert explain.run(lake, top_score(lake)).reproduced


def test_open_night_older_than_the_horizon_keeps_its_pinned_files(
    spark: SparkSession, prepared: History, tmp_path: Path
) -> None:
    from jobs import maintain

    lake = open_at(spark, aged_copy(prepared, tmp_path / "lake"))
    age_runs(lake, OLDER_DAYS)
    pinned = prepared.history.versions["features"] - 1
    spark.sql(
        f"UPDATE delta.`{lake.uri}/nights` SET pins = map('features', {pinned}L) "
        f"WHERE business_date = DATE'{FIRST}'"
    )
    tasks = maintain.plan(lake)
    planned = {task.target: task.planned for task in tasks if "vacuum" in task.planned}
    assert f"the night {FIRST} (version {pinned}) needs newer files" in planned["features"]
    assert planned["features"].startswith("vacuum: 0 files")
