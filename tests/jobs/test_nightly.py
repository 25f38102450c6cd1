"""One small bank, one trained model, and everything that may happen to its nights."""

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


def open_at(spark: SparkSession, place: Path) -> Lake:
    from jobs.lake.delta_io import Lake

    return Lake(spark, load_settings(None, {"lake": str(place), "alert_budget": BUDGET}))


def delivery_of(bank: Path) -> Any:
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery

    return Delivery(str(bank), "parquet", load_mapping("simulated"))


def versions(lake: Lake) -> dict[str, int]:
    from jobs.lake.tables import TABLES

    return lake.versions(TABLES.values())


@pytest.fixture(scope="module")
def bank(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deliveries of 45 days."""
    from jobs.simulate import simulate
    from jobs.simulation.plan import SimulationPlan

    place = tmp_path_factory.mktemp("bank") / "deliveries"
    simulate(spark, SimulationPlan(str(place), NUM_CARDS, NUM_DAYS, seed=5, first_day=FIRST))
    return place


@pytest.fixture(scope="module")
def history(spark: SparkSession, bank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with all nights but the last, ingested and with features; no model."""
    from jobs import features, ingest
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights

    lake = open_at(spark, tmp_path_factory.mktemp("history") / "lake")
    lake.create()
    with lease_nights(lake, Dates(FIRST, HISTORY_LAST)) as night:
        ingest.run(night, delivery_of(bank))
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
    """The same lake with a challenger, put into service by hand."""
    from fraud_models.registry.mlflow_registry import CHAMPION
    from jobs import train
    from jobs.models.model_store import open_registry

    lake = open_at(spark, history)
    version = train.run(lake, small_plan())
    open_registry(lake).set_alias(CHAMPION, version)
    return history


@pytest.fixture(scope="module")
def night_done(spark: SparkSession, trained: Path) -> Path:
    """The same lake after its last night."""
    from jobs import nightly

    nightly.run(open_at(spark, trained), LAST)
    return trained


@pytest.fixture
def copied(spark: SparkSession, night_done: Path, tmp_path: Path) -> Callable[[], Lake]:
    """Copies of the finished lake; its model stays where it was registered."""

    def copy() -> Lake:
        place = tmp_path / "lake"
        shutil.copytree(night_done, place)
        return open_at(spark, place)

    return copy


def test_without_a_champion_ingest_and_features_run(
    spark: SparkSession, history: Path, tmp_path: Path
) -> None:
    from jobs import nightly
    from jobs.lake.dates import Dates
    from jobs.lake.run_history import night_records

    place = tmp_path / "lake"
    shutil.copytree(history, place, ignore=shutil.ignore_patterns("_registry", "_models"))
    lake = open_at(spark, place)
    with pytest.raises(InputMissing, match="no champion") as raised:
        nightly.run(lake, LAST)
    assert raised.value.exit_code == 4
    assert set(night_records(lake, Dates(LAST, LAST))[LAST]) == {"ingest", "features"}
    assert (place / "_reports" / str(LAST) / "report.html").exists()


def test_a_night_without_delivery_is_not_begun(spark: SparkSession, trained: Path) -> None:
    from jobs import nightly

    lake = open_at(spark, trained)
    before = versions(lake)
    with pytest.raises(InputMissing) as raised:
        nightly.run(lake, LAST + timedelta(days=30))
    assert raised.value.exit_code == 4
    assert versions(lake) == before


def test_the_model_says_what_it_was_made_from(spark: SparkSession, trained: Path) -> None:
    from jobs import train
    from jobs.models.model_store import open_registry, read_checkpoint

    lake = open_at(spark, trained)
    model = open_registry(lake).resolve("challenger")
    checkpoint = read_checkpoint(model)
    assert checkpoint.as_of == str(AS_OF)
    assert set(checkpoint.columns) == set(checkpoint.config.columns)
    assert set(checkpoint.data_versions) == {"transactions", "labels", "features"}
    assert checkpoint.calibration is not None
    # The same training again: found, not repeated.
    assert train.run(lake, small_plan()) == model.version
    assert len(open_registry(lake).versions()) == 1


def test_the_night_is_whole(spark: SparkSession, night_done: Path) -> None:
    from jobs.lake.tables import ALERTS, NIGHTS, SCORES, TRANSACTIONS

    lake = open_at(spark, night_done)
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
    folder = night_done / "_reports" / str(LAST)
    assert {path.name for path in folder.iterdir()} == {"report.html", "alerts.csv"}
    assert not list((night_done / "_staging").iterdir())


def test_a_night_takes_at_most_twelve_commits(spark: SparkSession, night_done: Path) -> None:
    from jobs.lake.tables import NIGHTS, TABLES

    lake = open_at(spark, night_done)
    began = lake.read(NIGHTS).where(f"business_date = '{LAST}'").collect()[0]["jobs"]
    started = json.loads(began["ingest"])["started_at"][:19].replace("T", " ")
    num_commits = 0
    for table in TABLES.values():
        history = lake.delta_table(table).history()
        num_commits += history.where(f"timestamp >= TIMESTAMP'{started}'").count()
    # The claim came just before the first job started.
    assert num_commits + 1 <= 12


def test_a_finished_night_run_again_changes_nothing(spark: SparkSession, night_done: Path) -> None:
    from jobs import nightly

    lake = open_at(spark, night_done)
    before = versions(lake)
    page = nightly.run(lake, LAST)
    assert versions(lake) == before
    assert Path(page).exists()


def test_a_score_can_be_explained(spark: SparkSession, night_done: Path) -> None:
    from jobs import explain
    from jobs.lake.tables import SCORES

    lake = open_at(spark, night_done)
    row = lake.read(SCORES).orderBy("score", ascending=False).head()
    assert row is not None
    found = explain.run(lake, row["transaction_id"])
    assert found.reproduced
    assert len(found.contributions) == 12
    top = [part.feature for part in found.contributions[:3]]
    assert top == [reason["feature"] for reason in row["reasons"]]
    assert found.recent[0]["transaction_id"] == row["transaction_id"]
    explain.show(found)
    with pytest.raises(InputMissing, match="No published score"):
        explain.run(lake, "unheard of")


def test_an_audit_tells_whether_a_score_holds(copied: Callable[[], Lake]) -> None:
    """Sixty nights later, compacted and vacuumed, it is looked at in test_explain.py."""
    from jobs import explain
    from jobs.lake.dates import Dates
    from jobs.lake.run_history import night_records
    from jobs.lake.tables import SCORES
    from jobs.lineage.provenance import lake_as_recorded

    lake = copied()
    row = lake.read(SCORES).orderBy("score", ascending=False).head()
    assert row is not None
    _, audit = explain.audit(lake, row["transaction_id"])
    assert audit.reproduced
    # What the runs have recorded counts, not what is set today.
    stricter = replace(lake, settings=lake.settings.model_copy(update={"late_days": 0}))
    for late in lake.read(SCORES).where("to_date(event_time) < business_date").head(1):
        _, audit = explain.audit(stricter, late["transaction_id"])
        assert audit.reproduced
    records = night_records(lake, Dates(LAST, LAST))[LAST]
    assert lake_as_recorded(stricter, records["features"]).settings.late_days == 7
    # Whatever a later delivery brings, a night's own scores have not seen it.
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


def test_what_a_backfill_does_not_find_leaves_the_nights_in_order(
    bank: Path, copied: Callable[[], Lake]
) -> None:
    from jobs import backfill, nightly
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import NIGHTS, RUNS

    lake = copied()
    lake.delta_table(NIGHTS).delete(f"business_date >= '{HISTORY_LAST}'")
    lake.delta_table(RUNS).delete(f"last_date >= '{HISTORY_LAST}'")
    eve = Dates(HISTORY_LAST, HISTORY_LAST)
    with pytest.raises(InputMissing, match="no version 99"):
        backfill.run(lake, backfill.BackfillPlan(eve, "typo", model="99"), delivery_of(bank))
    assert lake.read(NIGHTS).where(eve.sql).isEmpty()
    # A night that was taken and let go with nothing done is one that nobody has worked on.
    with lease_nights(lake, eve):
        pass
    assert not lake.read(NIGHTS).where(eve.sql).isEmpty()
    with pytest.raises(InputMissing, match="is complete but not processed"):
        nightly.run(lake, LAST)
    assert lake.read(NIGHTS).where(f"business_date = '{LAST}'").isEmpty()


@pytest.mark.parametrize("name", ["rarity_autoencoder", "semi_supervised_autoencoder"])
def test_a_model_that_ranks_otherwise_serves_a_night(
    bank: Path, copied: Callable[[], Lake], name: str
) -> None:
    from jobs import backfill, explain, train
    from jobs.lake.dates import Dates
    from jobs.lake.tables import SCORES

    lake = copied()
    with training_in_this_process():
        version = str(train.run(lake, small_plan(1, name)))
    night = Dates(LAST, LAST)
    backfill.run(lake, backfill.BackfillPlan(night, "a trial", model=version), delivery_of(bank))
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


def test_nights_scored_in_one_pass_equal_nights_scored_one_by_one(
    spark: SparkSession, night_done: Path
) -> None:
    from pyspark.sql import functions as F

    from jobs.lake.dates import Dates
    from jobs.lake.tables import FEATURES_TABLE
    from jobs.models.contexts import score_nights
    from jobs.models.model_store import open_registry

    lake = open_at(spark, night_done)
    model = open_registry(lake).resolve("champion")
    version = lake.version(FEATURES_TABLE)
    # A context period ends inside: 2024-02-01 is day 19754 = 705 * 28 + 14; 2024-02-15 begins one.
    first = LAST - timedelta(days=2)
    together = score_nights(lake, Dates(first, LAST), version, model).collect()
    assert len({row["transaction_id"] for row in together}) == len(together)
    errors = {row["transaction_id"]: row["reconstruction_error"] for row in together}
    num_compared = 0
    for offset in range(3):
        day = first + timedelta(days=offset)
        for row in score_nights(lake, Dates(day, day), version, model).collect():
            wanted = errors[row["transaction_id"]]
            assert row["reconstruction_error"] == pytest.approx(wanted, rel=1e-5, abs=1e-5)
            num_compared += 1
    assert num_compared == len(together) > 0
    in_sample = score_nights(lake, Dates(AS_OF - timedelta(days=1), AS_OF), version, model)
    marked = {
        row[0]: row[1]
        for row in in_sample.select("business_date", "in_sample").distinct().collect()
    }
    assert marked == {AS_OF - timedelta(days=1): True, AS_OF: False}
    assert in_sample.where(F.col("num_context_events") < 0).count() == 0


def test_gate_4_shows_nothing_that_is_not_whole(copied: Callable[[], Lake]) -> None:
    from jobs import publish, score
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.tables import SCORES

    lake = copied()
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
        with pytest.raises(InputMissing, match="not there any more"):
            publish.run(night)


def test_an_accepted_gate_lets_the_night_go_on(copied: Callable[[], Lake]) -> None:
    from pyspark.sql import functions as F

    from jobs import nightly, publish, score
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.lake.run_history import night_records
    from jobs.lake.tables import SCORES
    from jobs.quality.overrides import override_from_options

    lake = copied()
    before = lake.version(SCORES)
    wish = override_from_options("publish", "scores", "known attack")
    with lease_nights(lake, Dates(LAST, LAST)) as night:
        score.run(night)
        run_id = night.finished["score"].run_id
        staged = lake.stage(lake.read_staged(run_id, SCORES), run_id, "copy")
        one = staged.agg(F.min("transaction_id")).collect()[0][0]
        # A score out of range may be overruled; a score less may not.
        lake.stage(staged.where(F.col("transaction_id") != one), run_id, SCORES.name)
        with pytest.raises(GateFailed, match="cannot be overridden"):
            publish.run(night, wish)
        odd = F.when(F.col("transaction_id") == one, 1.5).otherwise(F.col("score"))
        lake.stage(staged.withColumn("score", odd), run_id, SCORES.name)
        with pytest.raises(GateFailed, match=f"publish --date {LAST} --accept scores --reason"):
            publish.run(night)
        assert lake.version(SCORES) == before
        publish.run(night, wish)
    assert lake.version(SCORES) > before
    page = Path(nightly.run(lake, LAST)).read_text(encoding="utf-8")
    assert "Published with a gate override" in page
    assert "known attack" in page
    gates = night_records(lake, Dates(LAST, LAST))[LAST]["publish"].gates
    assert gates[0]["accepted"]["outcome"] == "overruled"
    assert lake.read(SCORES).where("score > 1").count() == 1


def test_a_damaged_or_foreign_model_is_refused(copied: Callable[[], Lake]) -> None:
    from fraud_models.registry.mlflow_registry import CHAMPION, Registration
    from jobs import score
    from jobs.lake.dates import Dates
    from jobs.lake.nights import lease_nights
    from jobs.models.model_store import open_registry, read_checkpoint

    lake = copied()
    registry = open_registry(lake)
    model = registry.resolve(CHAMPION)
    from fraud_models.registry.checkpoint import save_checkpoint

    trained = read_checkpoint(model)
    changed = dict(trained.columns)
    names = list(changed)[:2]
    changed[names[0]], changed[names[1]] = "other meaning", "another"
    uri = lake.path("_models", "foreign")
    sha256 = save_checkpoint(uri, replace(trained, columns=changed))
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


def test_a_backtest_trains_and_judges_stretch_by_stretch(copied: Callable[[], Lake]) -> None:
    from jobs import backtest
    from jobs.lake.dates import Dates
    from jobs.lake.tables import METRICS
    from jobs.models.model_store import open_registry, read_checkpoint

    lake = copied()
    aliases = open_registry(lake).list_aliases()
    config = small_plan().config
    with pytest.raises(InputMissing, match="too few labels are mature"):
        late = backtest.BacktestPlan(Dates(LAST, LAST), "lstm_autoencoder", config)
        backtest.run(lake, late)
    judged = Dates(AS_OF, AS_OF + timedelta(days=6))
    plan = backtest.BacktestPlan(judged, "lstm_autoencoder", config, retrain_days=5)
    with training_in_this_process():
        found = backtest.run(lake, plan)
    backtest.show(found)
    told = json.loads(backtest.to_json(found))
    assert [(s["from"], s["to"]) for s in told["stretches"]] == [
        (str(AS_OF), str(AS_OF + timedelta(days=4))),
        (str(AS_OF + timedelta(days=5)), str(AS_OF + timedelta(days=6))),
    ]
    registry = open_registry(lake)
    as_of = [read_checkpoint(registry.resolve(str(s.model_version))).as_of for s in found.periods]
    assert as_of == [s["from"] for s in told["stretches"]]
    assert registry.list_aliases() == aliases
    for stretch in told["stretches"]:
        of_rows = {f["num_transactions"] for f in stretch["figures"].values()}
        assert len(of_rows) == 1 and len(stretch["figures"]) == 3
        for candidate, figures in stretch["figures"].items():
            nights = stretch["nights"][candidate].values()
            per_night = [night["cp_at_k"] for night in nights]
            assert sum(per_night) / len(per_night) == pytest.approx(figures["cp_at_k"])
    for candidate in ("lstm_autoencoder", "isolation_forest", "boosted_trees"):
        mean = told["overall"][candidate]["roc_auc"]
        exact = [stretch["figures"][candidate]["roc_auc"] for stretch in told["stretches"]]
        assert mean["value"] == pytest.approx(sum(exact) / 2)
        # So few cards that often none of the fraudulent ones is drawn: no interval then.
        assert mean["interval"] is None or mean["interval"][0] < mean["value"]
        precision = told["overall"][candidate]["cp_at_k"]
        assert precision["interval"][0] <= precision["value"] <= precision["interval"][1]
    written = lake.read(METRICS).where("model LIKE 'backtest %'")
    assert written.count() == 9 and written.where("interval_low > value").count() == 0
    # The same nights once more without the baselines: the recipe's figures stay what they are.
    first = found.periods[0]
    with training_in_this_process():
        without = backtest.run(lake, replace(plan, dates=first.dates, with_baselines=False))
    alone = without.periods[0]
    assert list(alone.by_candidate) == ["lstm_autoencoder"]
    assert alone.by_candidate["lstm_autoencoder"][0] == first.by_candidate["lstm_autoencoder"][0]


def test_a_model_that_was_damaged_is_trained_again(copied: Callable[[], Lake]) -> None:
    from jobs import train
    from jobs.models.model_store import open_registry, read_checkpoint

    lake, plan = copied(), small_plan(num_workers=1)
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


def test_weeks_without_a_fraud_have_no_curves_and_take_none_away() -> None:
    from jobs.backtest import Backtest, BacktestPlan, RetrainingPeriod
    from jobs.evaluation.bootstrap import BootstrapMetrics
    from jobs.evaluation.ranking_metrics import RankingMetrics
    from jobs.lake.dates import Dates

    def week(value: float) -> tuple[RankingMetrics, BootstrapMetrics]:
        drawn = np.full(200, value)
        return RankingMetrics(9, 1, value, value, 0.5), BootstrapMetrics(
            (), drawn, drawn, drawn, ()
        )

    plan = BacktestPlan(Dates(AS_OF, AS_OF), "lstm_autoencoder", small_plan().config)
    weeks = [
        {"some": week(0.7), "none": week(np.nan)},
        {"some": week(np.nan), "none": week(np.nan)},
    ]
    stretches = tuple(
        RetrainingPeriod(plan.dates, 1, 0.0, 0.0, by_candidate) for by_candidate in weeks
    )
    found = Backtest(plan, 10, stretches)
    assert found.mean("some", "roc_auc").value == pytest.approx(0.7)
    assert np.isnan(found.mean("none", "roc_auc").value)
    assert found.mean("none", "roc_auc").interval is None
    assert found.mean("none", "cp_at_k").value == 0.5


def test_evaluation_decides_what_is_promoted(copied: Callable[[], Lake]) -> None:
    from jobs import evaluate, promote
    from jobs.lake.dates import Dates
    from jobs.lake.tables import METRICS

    lake = copied()
    judged = Dates(AS_OF, AS_OF + timedelta(days=6))
    with pytest.raises(UsageError, match="has seen nights"):
        evaluate.run(lake, Dates(AS_OF - timedelta(days=1), AS_OF), "challenger")
    with pytest.raises(InputMissing, match="too few labels are mature"):
        evaluate.run(lake, Dates(AS_OF, LAST), "challenger")
    found = evaluate.run(lake, judged, "challenger")
    evaluate.show(found)
    assert set(found.by_candidate) == {"version_1", "isolation_forest"}
    ours, forest = found.by_candidate["version_1"], found.by_candidate["isolation_forest"]
    assert ours.num_transactions == forest.num_transactions > 0
    assert ours.num_frauds > 0
    assert 0.5 < ours.roc_auc <= 1
    assert lake.read(METRICS).where("model = 'isolation_forest'").count() == 5
    # Version 1 is the champion already; without one, the forest is to be beaten.
    assert promote.run(lake, "challenger") == 1
    with pytest.raises(InputMissing, match="99"):
        promote.run(lake, "99")
