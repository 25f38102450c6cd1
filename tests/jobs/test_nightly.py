"""End-to-end tests of nights, with one small bank and one trained model.

The module fixtures build on one lake: `history`, then `trained`, then `finished_night`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from feature_defs.errors import GateFailed, InputMissing, UsageError
from jobs.runtime.settings import load_settings
from tests.quick_training import training_in_this_process

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

pytestmark = [pytest.mark.spark, pytest.mark.distributed, pytest.mark.slow]

FIRST = date(2024, 1, 1)
NUM_CARDS, NUM_DAYS = 60, 45
LAST = FIRST + timedelta(days=NUM_DAYS - 1)
HISTORY_LAST = LAST - timedelta(days=1)
AS_OF = LAST - timedelta(days=15)
BUDGET = 5


def open_lake(spark: SparkSession, path: Path) -> Lake:
    from jobs.lake.delta_io import Lake

    return Lake(spark, load_settings(None, {"lake": str(path), "alert_budget": BUDGET}))


def parquet_delivery(bank: Path) -> Any:
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery

    return Delivery(str(bank), "parquet", load_mapping("simulated"))


def table_versions(lake: Lake) -> dict[str, int]:
    from jobs.lake.tables import TABLES

    return lake.versions(TABLES.values())


@pytest.fixture(scope="module")
def bank(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate the deliveries of 45 days and return their folder."""
    from jobs.simulate import simulate
    from jobs.simulation.plan import SimulationPlan

    path = tmp_path_factory.mktemp("bank") / "deliveries"
    simulate(spark, SimulationPlan(str(path), NUM_CARDS, NUM_DAYS, seed=5, first_day=FIRST))
    return path


@pytest.fixture(scope="module")
def history(spark: SparkSession, bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a lake with the features of all nights but the last, and without a model."""
    from jobs import features, ingest
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    lake = open_lake(spark, tmp_path_factory.mktemp("history") / "lake")
    lake.create()
    with lease_nights(lake, Dates(FIRST, HISTORY_LAST)) as night:
        ingest.run(night, parquet_delivery(bank))
        features.run(night)
    return Path(lake.uri)


def small_plan(num_workers: int = 2, name: str = "lstm_autoencoder") -> Any:
    from fraud_models.recipes import recipe
    from jobs.models.training_plan import TrainingPlan

    config = recipe(name)
    config = replace(
        config, train_days=21, optimisation=replace(config.optimisation, epochs=2, batch_size=16)
    )
    return TrainingPlan(AS_OF, name, config, num_workers)


@pytest.fixture(scope="module")
def trained(spark: SparkSession, history: Path) -> Path:
    """Train a challenger in the lake of `history` and make it the champion."""
    from fraud_models.registry.mlflow_registry import CHAMPION
    from jobs import train
    from jobs.models.model_store import open_registry

    lake = open_lake(spark, history)
    version = train.run(lake, small_plan())
    open_registry(lake).set_alias(CHAMPION, version)
    return history


@pytest.fixture(scope="module")
def finished_night(spark: SparkSession, trained: Path) -> Path:
    """Run the last night in the lake of `trained`."""
    from jobs import nightly

    nightly.run(open_lake(spark, trained), LAST)
    return trained


@pytest.fixture
def copy_lake(spark: SparkSession, finished_night: Path, tmp_path: Path) -> Callable[[], Lake]:
    """Return a function that copies the finished lake; the copy uses the same model files."""

    def copy() -> Lake:
        path = tmp_path / "lake"
        shutil.copytree(finished_night, path)
        return open_lake(spark, path)

    return copy


# Slow: ingests a night and builds its features.
def test_nightly_without_champion_runs_ingest_and_features(
    spark: SparkSession, history: Path, tmp_path: Path
) -> None:
    from jobs import nightly
    from jobs.lake.dates import Dates
    from jobs.lake.run_history import night_records

    path = tmp_path / "lake"
    shutil.copytree(history, path, ignore=shutil.ignore_patterns("_registry", "_models"))
    lake = open_lake(spark, path)
    with pytest.raises(InputMissing, match="no champion") as raised:
        nightly.run(lake, LAST)
    assert raised.value.exit_code == 4
    assert set(night_records(lake, Dates(LAST, LAST))[LAST]) == {"ingest", "features"}
    assert (path / "_reports" / str(LAST) / "report.html").exists()


def test_nightly_without_delivery_writes_nothing(spark: SparkSession, trained: Path) -> None:
    from jobs import nightly

    lake = open_lake(spark, trained)
    before = table_versions(lake)
    with pytest.raises(InputMissing) as raised:
        nightly.run(lake, LAST + timedelta(days=30))
    assert raised.value.exit_code == 4
    assert table_versions(lake) == before


def test_train_records_its_inputs_and_is_not_repeated(spark: SparkSession, trained: Path) -> None:
    from jobs import train
    from jobs.models.model_store import open_registry, read_checkpoint

    lake = open_lake(spark, trained)
    model = open_registry(lake).resolve("challenger")
    checkpoint = read_checkpoint(model)
    assert checkpoint.as_of == str(AS_OF)
    assert set(checkpoint.columns) == set(checkpoint.config.columns)
    assert set(checkpoint.data_versions) == {"transactions", "labels", "features"}
    assert checkpoint.calibration is not None
    # Repeating the same training returns the registered version.
    assert train.run(lake, small_plan()) == model.version
    assert len(open_registry(lake).versions()) == 1


def test_finished_night_has_scores_alerts_and_report(
    spark: SparkSession, finished_night: Path
) -> None:
    from jobs.lake.tables import ALERTS, NIGHTS, SCORES, TRANSACTIONS

    lake = open_lake(spark, finished_night)
    accepted = lake.read(TRANSACTIONS).where(f"business_date = '{LAST}'")
    scores = lake.read(SCORES)
    assert scores.count() == accepted.count() > 0
    assert scores.join(accepted, "transaction_id").count() == accepted.count()
    assert scores.where("score < 0 OR score >= 1 OR size(reasons) != 3 OR in_sample").count() == 0
    alerts = lake.read(ALERTS).orderBy("rank").collect()
    assert 0 < len(alerts) <= BUDGET
    assert [row["rank"] for row in alerts] == list(range(1, len(alerts) + 1))
    assert len({row["card_id"] for row in alerts}) == len(alerts)
    assert [row["score"] for row in alerts] == sorted((r["score"] for r in alerts), reverse=True)
    row = lake.read(NIGHTS).where(f"business_date = '{LAST}'").collect()[0]
    assert row["state"] == "done"
    assert row["holder"] is None
    assert row["pins"]["scores"] == lake.version(SCORES)
    assert row["model_version"] == "1"
    folder = finished_night / "_reports" / str(LAST)
    assert {path.name for path in folder.iterdir()} == {"report.html", "alerts.csv"}
    assert not list((finished_night / "_staging").iterdir())


def test_night_makes_at_most_twelve_commits(spark: SparkSession, finished_night: Path) -> None:
    from jobs.lake.tables import NIGHTS, TABLES

    lake = open_lake(spark, finished_night)
    records = lake.read(NIGHTS).where(f"business_date = '{LAST}'").collect()[0]["jobs"]
    started = json.loads(records["ingest"])["started_at"][:19].replace("T", " ")
    num_commits = 0
    for table in TABLES.values():
        history = lake.delta_table(table).history()
        num_commits += history.where(f"timestamp >= TIMESTAMP'{started}'").count()
    # The commit that acquires the lease precedes the start of the first job.
    assert num_commits + 1 <= 12


def test_nightly_rerun_of_finished_night_changes_no_table(
    spark: SparkSession, finished_night: Path
) -> None:
    from jobs import nightly

    lake = open_lake(spark, finished_night)
    before = table_versions(lake)
    page = nightly.run(lake, LAST)
    assert table_versions(lake) == before
    assert Path(page).exists()


def test_explain_reproduces_a_published_score(spark: SparkSession, finished_night: Path) -> None:
    from jobs import explain
    from jobs.lake.tables import SCORES

    lake = open_lake(spark, finished_night)
    row = lake.read(SCORES).orderBy("score", ascending=False).head()
    assert row is not None
    explanation = explain.run(lake, row["transaction_id"])
    assert explanation.reproduced
    assert len(explanation.contributions) == 12
    top = [part.feature for part in explanation.contributions[:3]]
    assert top == [reason["feature"] for reason in row["reasons"]]
    assert explanation.recent[0]["transaction_id"] == row["transaction_id"]
    explain.show(explanation)
    with pytest.raises(InputMissing, match="No published score"):
        explain.run(lake, "unknown")


def test_audit_detects_a_changed_score(copy_lake: Callable[[], Lake]) -> None:
    """Check the audit right after the night; test_explain.py audits a score 60 nights later."""
    from jobs import explain
    from jobs.lake.dates import Dates
    from jobs.lake.run_history import night_records
    from jobs.lake.tables import SCORES
    from jobs.lineage.provenance import lake_as_recorded

    lake = copy_lake()
    row = lake.read(SCORES).orderBy("score", ascending=False).head()
    assert row is not None
    _, audit = explain.audit(lake, row["transaction_id"])
    assert audit.reproduced
    # The audit uses the settings that the run recorded, not the current ones.
    stricter = replace(lake, settings=lake.settings.model_copy(update={"late_days": 0}))
    for late in lake.read(SCORES).where("to_date(event_time) < business_date").head(1):
        _, audit = explain.audit(stricter, late["transaction_id"])
        assert audit.reproduced
    records = night_records(lake, Dates(LAST, LAST))[LAST]
    assert lake_as_recorded(stricter, records["features"]).settings.late_days == 7
    # Rows that arrive late, in a later delivery, had no effect on the scores of a night.
    assert lake_as_recorded(lake, records["score"]).settings.late_days == 0
    lake.delta_table(SCORES).update(
        f"transaction_id = '{row['transaction_id']}'",
        {"reconstruction_error": "reconstruction_error * 1.0001"},
    )
    _, audit = explain.audit(lake, row["transaction_id"])
    assert [check.what for check in audit.checks if not check.reproduced] == [
        "published row",
        "reconstruction error",
    ]


def test_unprocessed_night_after_failed_backfill_blocks_the_next(
    bank: Path, copy_lake: Callable[[], Lake]
) -> None:
    from jobs import backfill, nightly
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS, RUNS

    lake = copy_lake()
    lake.delta_table(NIGHTS).delete(f"business_date >= '{HISTORY_LAST}'")
    lake.delta_table(RUNS).delete(f"last_date >= '{HISTORY_LAST}'")
    previous_night = Dates(HISTORY_LAST, HISTORY_LAST)
    with pytest.raises(InputMissing, match="no version 99"):
        backfill.run(
            lake, backfill.BackfillPlan(previous_night, "typo", model="99"), parquet_delivery(bank)
        )
    assert lake.read(NIGHTS).where(previous_night.sql).isEmpty()
    # A night whose lease was released before any job finished counts as not processed.
    with lease_nights(lake, previous_night):
        pass
    assert not lake.read(NIGHTS).where(previous_night.sql).isEmpty()
    with pytest.raises(InputMissing, match="is complete but not processed"):
        nightly.run(lake, LAST)
    assert lake.read(NIGHTS).where(f"business_date = '{LAST}'").isEmpty()


# Slow: trains a model, then runs and audits a whole night.
@pytest.mark.parametrize("name", ["rarity_autoencoder", "semi_supervised_autoencoder"])
def test_backfill_with_another_recipe_is_scored_and_reproduced(
    bank: Path, copy_lake: Callable[[], Lake], name: str
) -> None:
    from jobs import backfill, explain, train
    from jobs.lake.dates import Dates
    from jobs.lake.tables import SCORES

    lake = copy_lake()
    with training_in_this_process():
        version = str(train.run(lake, small_plan(1, name)))
    night = Dates(LAST, LAST)
    backfill.run(lake, backfill.BackfillPlan(night, "trial", model=version), parquet_delivery(bank))
    scores = lake.read(SCORES).where(night.sql)
    assert {row[0] for row in scores.select("model_version").distinct().collect()} == {version}
    row = scores.orderBy("score", ascending=False).head()
    assert row is not None
    explanation, audit = explain.audit(lake, row["transaction_id"])
    assert audit.reproduced and explanation.reproduced
    shares = {part.feature: part.contribution for part in explanation.contributions}
    assert sum(shares.values()) == pytest.approx(row["ranking_value"], abs=1e-4)
    for reason in row["reasons"]:
        assert reason["contribution"] > 0
        assert shares[reason["feature"]] == pytest.approx(reason["contribution"], abs=1e-4)
    assert ("card_history" in shares) == (name == "semi_supervised_autoencoder")
    explain.show(explanation)


def test_score_nights_in_one_pass_equals_night_by_night(
    spark: SparkSession, finished_night: Path
) -> None:
    from pyspark.sql import functions as F

    from jobs.lake.dates import Dates
    from jobs.lake.tables import FEATURES_TABLE
    from jobs.models.contexts import score_nights
    from jobs.models.model_store import open_registry

    lake = open_lake(spark, finished_night)
    model = open_registry(lake).resolve("champion")
    version = lake.version(FEATURES_TABLE)
    # A context period ends within these nights: 2024-02-01 is day 19754 = 705 * 28 + 14, so the
    # next period begins on 2024-02-15.
    first = LAST - timedelta(days=2)
    together = score_nights(lake, Dates(first, LAST), version, model).collect()
    assert len({row["transaction_id"] for row in together}) == len(together)
    errors = {row["transaction_id"]: row["reconstruction_error"] for row in together}
    num_compared = 0
    for offset in range(3):
        day = first + timedelta(days=offset)
        for row in score_nights(lake, Dates(day, day), version, model).collect():
            expected = errors[row["transaction_id"]]
            assert row["reconstruction_error"] == pytest.approx(expected, rel=1e-5, abs=1e-5)
            num_compared += 1
    assert num_compared == len(together) > 0
    in_sample = score_nights(lake, Dates(AS_OF - timedelta(days=1), AS_OF), version, model)
    in_sample_by_night = {
        row[0]: row[1]
        for row in in_sample.select("business_date", "in_sample").distinct().collect()
    }
    assert in_sample_by_night == {AS_OF - timedelta(days=1): True, AS_OF: False}
    assert in_sample.where(F.col("num_context_events") < 0).count() == 0


def test_gate_4_refuses_incomplete_staged_scores(copy_lake: Callable[[], Lake]) -> None:
    from jobs import publish, score
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import SCORES

    lake = copy_lake()
    before = lake.version(SCORES)
    with lease_nights(lake, Dates(LAST, LAST)) as night:
        score.run(night)
        staged = Path(lake.path("_staging", night.finished["score"].run_id, SCORES.name))
        max(staged.glob("part-*.parquet"), key=lambda part: part.stat().st_size).unlink()
        with pytest.raises(GateFailed, match="Every accepted transaction has a score"):
            publish.run(night)
    assert lake.version(SCORES) == before
    with lease_nights(lake, Dates(LAST, LAST)) as night:
        lake.discard_staged(night.finished["score"].run_id)
        with pytest.raises(InputMissing, match="are missing"):
            publish.run(night)


# Slow: scores a night, publishes it after two refusals, and finishes it.
def test_gate_override_publishes_the_scores_and_is_reported(copy_lake: Callable[[], Lake]) -> None:
    from pyspark.sql import functions as F

    from jobs import nightly, publish, score
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.run_history import night_records
    from jobs.lake.tables import SCORES
    from jobs.quality.overrides import override_from_options

    lake = copy_lake()
    before = lake.version(SCORES)
    override = override_from_options("publish", "scores", "known attack")
    with lease_nights(lake, Dates(LAST, LAST)) as night:
        score.run(night)
        run_id = night.finished["score"].run_id
        staged = lake.stage(lake.read_staged(run_id, SCORES), run_id, "copy")
        first_id = staged.agg(F.min("transaction_id")).collect()[0][0]
        # An operator can override a score out of range, but not a missing score.
        lake.stage(staged.where(F.col("transaction_id") != first_id), run_id, SCORES.name)
        with pytest.raises(GateFailed, match="cannot be overridden"):
            publish.run(night, override)
        out_of_range = F.when(F.col("transaction_id") == first_id, 1.5).otherwise(F.col("score"))
        lake.stage(staged.withColumn("score", out_of_range), run_id, SCORES.name)
        with pytest.raises(GateFailed, match=f"publish --date {LAST} --accept scores --reason"):
            publish.run(night)
        assert lake.version(SCORES) == before
        publish.run(night, override)
    assert lake.version(SCORES) > before
    page = Path(nightly.run(lake, LAST)).read_text(encoding="utf-8")
    assert "Published with a gate override" in page
    assert "known attack" in page
    gates = night_records(lake, Dates(LAST, LAST))[LAST]["publish"].gates
    assert gates[0]["accepted"]["outcome"] == "overruled"
    assert lake.read(SCORES).where("score > 1").count() == 1


def test_score_with_damaged_or_incompatible_model_is_refused(copy_lake: Callable[[], Lake]) -> None:
    from fraud_models.registry.mlflow_registry import CHAMPION, Registration
    from jobs import score
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.models.model_store import open_registry, read_checkpoint

    lake = copy_lake()
    registry = open_registry(lake)
    model = registry.resolve(CHAMPION)
    from fraud_models.registry.checkpoint import save_checkpoint

    checkpoint = read_checkpoint(model)
    changed = dict(checkpoint.columns)
    names = list(changed)[:2]
    changed[names[0]], changed[names[1]] = "other meaning", "another"
    uri = lake.path("_models", "foreign")
    sha256 = save_checkpoint(uri, replace(checkpoint, columns=changed))
    version = registry.register(Registration(uri, sha256, "foreign", {}, {}))

    def score_with(number: int) -> None:
        with lease_nights(lake, Dates(LAST, LAST)) as night:
            night.models = {LAST: str(number)}
            score.run(night)

    with pytest.raises(InputMissing) as raised:
        score_with(version)
    assert all(name in str(raised.value) for name in names)
    weights = Path(uri) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(InputMissing, match="weights"):
        score_with(version)


# Slow: trains three models and fits two baselines beside each.
def test_backtest_trains_and_evaluates_each_retraining_period(
    copy_lake: Callable[[], Lake],
) -> None:
    from jobs import backtest
    from jobs.lake.dates import Dates
    from jobs.lake.tables import METRICS
    from jobs.models.model_store import open_registry, read_checkpoint

    lake = copy_lake()
    aliases = open_registry(lake).list_aliases()
    config = small_plan().config
    with pytest.raises(InputMissing, match="too few labels are mature"):
        immature = backtest.BacktestPlan(Dates(LAST, LAST), "lstm_autoencoder", config)
        backtest.run(lake, immature)
    dates = Dates(AS_OF, AS_OF + timedelta(days=6))
    plan = backtest.BacktestPlan(dates, "lstm_autoencoder", config, retrain_days=5)
    with training_in_this_process():
        result = backtest.run(lake, plan)
    backtest.show(result)
    output = json.loads(backtest.to_json(result))
    periods = output["stretches"]
    assert [(period["from"], period["to"]) for period in periods] == [
        (str(AS_OF), str(AS_OF + timedelta(days=4))),
        (str(AS_OF + timedelta(days=5)), str(AS_OF + timedelta(days=6))),
    ]
    registry = open_registry(lake)
    as_of = [read_checkpoint(registry.resolve(str(s.model_version))).as_of for s in result.periods]
    assert as_of == [period["from"] for period in periods]
    assert registry.list_aliases() == aliases
    for period in periods:
        row_counts = {metrics["num_transactions"] for metrics in period["figures"].values()}
        assert len(row_counts) == 1 and len(period["figures"]) == 3
        for candidate, metrics in period["figures"].items():
            nights = period["nights"][candidate].values()
            per_night = [night["cp_at_k"] for night in nights]
            assert sum(per_night) / len(per_night) == pytest.approx(metrics["cp_at_k"])
    for candidate in ("lstm_autoencoder", "isolation_forest", "boosted_trees"):
        mean = output["overall"][candidate]["roc_auc"]
        exact = [period["figures"][candidate]["roc_auc"] for period in periods]
        assert mean["value"] == pytest.approx(sum(exact) / 2)
        # With so few cards, a bootstrap sample may contain no fraud; then there is no interval.
        assert mean["interval"] is None or mean["interval"][0] < mean["value"]
        precision = output["overall"][candidate]["cp_at_k"]
        assert precision["interval"][0] <= precision["value"] <= precision["interval"][1]
    written = lake.read(METRICS).where("model LIKE 'backtest %'")
    assert written.count() == 9 and written.where("interval_low > value").count() == 0
    # The metrics of the recipe do not depend on the baselines.
    first = result.periods[0]
    with training_in_this_process():
        without_baselines = backtest.run(
            lake, replace(plan, dates=first.dates, with_baselines=False)
        )
    alone = without_baselines.periods[0]
    assert list(alone.by_candidate) == ["lstm_autoencoder"]
    assert alone.by_candidate["lstm_autoencoder"][0] == first.by_candidate["lstm_autoencoder"][0]


def test_train_with_damaged_model_trains_again(copy_lake: Callable[[], Lake]) -> None:
    from jobs import train
    from jobs.models.model_store import open_registry, read_checkpoint

    lake, plan = copy_lake(), small_plan(num_workers=1)
    with training_in_this_process():
        first = train.register(lake, plan)
    model = open_registry(lake).resolve(first)
    weights = Path(model.uri, "weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4])
    with training_in_this_process():
        again = train.register(lake, plan)
    assert again != first
    assert read_checkpoint(open_registry(lake).resolve(again)).as_of == str(AS_OF)
    assert train.register(lake, plan) == again


def test_backtest_mean_ignores_periods_without_frauds() -> None:
    from jobs.backtest import Backtest, BacktestPlan, RetrainingPeriod
    from jobs.evaluation.bootstrap import BootstrapMetrics
    from jobs.evaluation.ranking_metrics import RankingMetrics
    from jobs.lake.dates import Dates

    def week(value: float) -> tuple[RankingMetrics, BootstrapMetrics]:
        samples = np.full(200, value)
        return RankingMetrics(9, 1, value, value, 0.5), BootstrapMetrics(
            (), samples, samples, samples, ()
        )

    plan = BacktestPlan(Dates(AS_OF, AS_OF), "lstm_autoencoder", small_plan().config)
    weeks = [
        {"some": week(0.7), "none": week(np.nan)},
        {"some": week(np.nan), "none": week(np.nan)},
    ]
    periods = tuple(
        RetrainingPeriod(plan.dates, 1, 0.0, 0.0, by_candidate) for by_candidate in weeks
    )
    result = Backtest(plan, 10, periods)
    assert result.mean("some", "roc_auc").value == pytest.approx(0.7)
    assert np.isnan(result.mean("none", "roc_auc").value)
    assert result.mean("none", "roc_auc").interval is None
    assert result.mean("none", "cp_at_k").value == 0.5


def test_evaluate_requires_unseen_mature_nights_before_promotion(
    copy_lake: Callable[[], Lake],
) -> None:
    from jobs import evaluate, promote
    from jobs.lake.dates import Dates
    from jobs.lake.tables import METRICS

    lake = copy_lake()
    dates = Dates(AS_OF, AS_OF + timedelta(days=6))
    with pytest.raises(UsageError, match="has seen nights"):
        evaluate.run(lake, Dates(AS_OF - timedelta(days=1), AS_OF), "challenger")
    with pytest.raises(InputMissing, match="too few labels are mature"):
        evaluate.run(lake, Dates(AS_OF, LAST), "challenger")
    result = evaluate.run(lake, dates, "challenger")
    evaluate.show(result)
    assert set(result.by_candidate) == {"version_1", "isolation_forest"}
    ours, forest = result.by_candidate["version_1"], result.by_candidate["isolation_forest"]
    assert ours.num_transactions == forest.num_transactions > 0
    assert ours.num_frauds > 0
    assert 0.5 < ours.roc_auc <= 1
    assert lake.read(METRICS).where("model = 'isolation_forest'").count() == 5
    # Version 1 is the champion already, so `promote` returns it without running gate 3.
    assert promote.run(lake, "challenger") == 1
    with pytest.raises(InputMissing, match="99"):
        promote.run(lake, "99")
