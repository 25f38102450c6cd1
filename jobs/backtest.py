"""Replay nights with a recipe as they would have gone: train, judge what follows, train again.

Reads   features, transactions, labels (one version each), the registry
Writes  the registry (a version per training; no alias changes), metrics
Fails   when labels of the nights are not mature yet, or a training fails

Every `retrain_days` a model is trained as of that day, from what was known then, and judged on the
nights up to the next training. Beside it, on the same rows: an isolation forest, and
gradient-boosted trees on the model's own columns and the labels that were mature. The protocol on
each stretch of nights is that of `evaluate`; figures are means over stretches, with 95 % intervals
by drawing cards and a stretch's nights again (so a stretch of one night tells nothing of nights).

    fraud-scoring backtest --lake L --from 2018-07-18 --to 2018-08-14 --recipe rarity_autoencoder
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from pyspark.sql import DataFrame

from feature_defs.errors import UsageError
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from fraud_models.config import ModelConfig
from fraud_models.evaluation.bootstrap import interval
from fraud_models.registry.mlflow_registry import ModelVersion
from jobs import train
from jobs.deliveries.label_policy import label_policy
from jobs.evaluation.baselines import BOOSTED_TREES, ISOLATION_FOREST, boosted_trees
from jobs.evaluation.bootstrap import BootstrapMetrics, resampled
from jobs.evaluation.candidates import with_column_of, with_forest, with_values
from jobs.evaluation.eligible_rows import rows_to_evaluate
from jobs.evaluation.metrics_table import Metric, append_metrics
from jobs.evaluation.ranking_metrics import RankingMetrics, figures
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run, record_run
from jobs.lake.tables import FEATURES_TABLE, LABELS, TRANSACTIONS
from jobs.models.model_store import open_registry
from jobs.models.training_plan import TrainingPlan
from jobs.runtime.logs import log_event, wide_console

FIGURES = ("roc_auc", "average_precision", "cp_at_k")


@dataclass(frozen=True)
class BacktestPlan:
    """What is asked for."""

    dates: Dates
    recipe: str
    config: ModelConfig
    num_workers: int = 1
    retrain_days: int = 7
    # Whether the isolation forest and the boosted trees are fitted anew beside each model.
    with_baselines: bool = True

    def __post_init__(self) -> None:
        if self.retrain_days < 1:
            raise UsageError(
                f"--retrain-days is {self.retrain_days}.",
                expected="1 or more.",
                remedy="give the days between two trainings.",
            )

    @property
    def candidates(self) -> tuple[str, ...]:
        """The recipe, then the baselines."""
        return (self.recipe, *((ISOLATION_FOREST, BOOSTED_TREES) if self.with_baselines else ()))

    @property
    def stretches(self) -> tuple[Dates, ...]:
        """Nights that are judged by one model each; the last may be fewer."""
        days = self.dates.days[:: self.retrain_days]
        ends = (*(day - timedelta(days=1) for day in days[1:]), self.dates.last)
        return tuple(Dates(first, last) for first, last in zip(days, ends, strict=True))


@dataclass(frozen=True)
class RetrainingPeriod:
    """What one model, and the baselines beside it, made of the nights after its training."""

    dates: Dates
    model_version: int
    train_s: float
    score_s: float
    by_candidate: dict[str, tuple[RankingMetrics, BootstrapMetrics]]


@dataclass(frozen=True)
class Mean:
    """A figure over all stretches, with its 95 % interval where there is one."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Backtest:
    """All of it."""

    plan: BacktestPlan
    k: int
    stretches: tuple[RetrainingPeriod, ...]

    def mean(self, candidate: str, name: str) -> Mean:
        """A figure of a candidate, all stretches counting alike where it is defined.

        A stretch without a fraud has no curves. NaN where no stretch has the figure.
        """
        pairs = [stretch.by_candidate[candidate] for stretch in self.stretches]
        pairs = [pair for pair in pairs if np.isfinite(getattr(pair[0], name))]
        if not pairs:
            return Mean(float("nan"), None)
        value = float(np.mean([getattr(found, name) for found, _ in pairs]))
        replicates = np.mean([getattr(drawn, name) for _, drawn in pairs], axis=0)
        return Mean(value, interval(value, replicates))


def run(lake: Lake, plan: BacktestPlan) -> Backtest:
    """Train and judge, stretch by stretch.

    Raises:
        InputMissing: labels of the nights are not mature yet, or features are missing.
    """
    k = lake.settings.alert_budget
    arguments = {
        "recipe": plan.recipe,
        "config": plan.config.to_dict(),
        "retrain_days": plan.retrain_days,
        "k": k,
    }
    with record_run(lake, "backtest", plan.dates, arguments) as run:
        run.versions_in = lake.versions((FEATURES_TABLE, TRANSACTIONS, LABELS))
        # All that can be refused is, before hours of training.
        for dates in plan.stretches:
            rows_to_evaluate(lake, dates, run)
        stretches = tuple(_stretch(lake, plan, dates, run) for dates in plan.stretches)
        backtest = Backtest(plan, k, stretches)
        _write_metrics(lake, backtest, run)
    return backtest


def _stretch(lake: Lake, plan: BacktestPlan, dates: Dates, run: Run) -> RetrainingPeriod:
    log_event(f"{plan.recipe} as of {dates.first}, for {dates}")
    began = time.monotonic()
    version = train.register(
        lake, TrainingPlan(dates.first, plan.recipe, plan.config, plan.num_workers)
    )
    trained = time.monotonic()
    model = open_registry(lake).resolve(str(version))
    rows = with_values(lake, rows_to_evaluate(lake, dates, run), {plan.recipe: model}, dates, run)
    if plan.with_baselines:
        rows = with_forest(lake, rows, model, dates, run)
        rows = _with_trees(lake, rows, model, dates, run)
    staged = lake.stage(rows, run.run_id, f"backtested-{dates.first}")
    scored = time.monotonic()
    k = lake.settings.alert_budget
    by_candidate = {
        name: (figures(staged, name, k), resampled(staged, name, k)) for name in plan.candidates
    }
    lake.discard_staged(run.run_id)
    return RetrainingPeriod(dates, version, trained - began, scored - trained, by_candidate)


def _with_trees(
    lake: Lake, rows: DataFrame, model: ModelVersion, dates: Dates, run: Run
) -> DataFrame:
    features = lake.read(FEATURES_TABLE, run.versions_in[FEATURES_TABLE.name])
    labels = lake.read(LABELS, run.versions_in[LABELS.name])
    odds = boosted_trees(FeatureInputs(features, labels, label_policy(lake)), model)
    return with_column_of(features, rows, odds.alias(BOOSTED_TREES), dates)


def _write_metrics(lake: Lake, backtest: Backtest, run: Run) -> None:
    means = (
        (candidate, name, backtest.mean(candidate, name))
        for candidate in backtest.plan.candidates
        for name in FIGURES
    )
    append_metrics(
        lake,
        run,
        backtest.plan.dates,
        backtest.k,
        (
            Metric(f"backtest {candidate}", name, mean.value, mean.interval)
            for candidate, name, mean in means
        ),
    )
    run.figures = as_plain(backtest)


def as_plain(backtest: Backtest) -> dict[str, Any]:
    """Everything as plain values that JSON can hold: overall, by stretch, by night."""
    plan = backtest.plan
    return {
        "recipe": plan.recipe,
        "from": str(plan.dates.first),
        "to": str(plan.dates.last),
        "retrain_days": plan.retrain_days,
        "k": backtest.k,
        "overall": {
            candidate: {name: _told(asdict(backtest.mean(candidate, name))) for name in FIGURES}
            for candidate in plan.candidates
        },
        "stretches": [
            {
                "from": str(stretch.dates.first),
                "to": str(stretch.dates.last),
                "model_version": stretch.model_version,
                "train_s": round(stretch.train_s, 1),
                "score_s": round(stretch.score_s, 1),
                "figures": {
                    name: _told(asdict(found)) for name, (found, _) in stretch.by_candidate.items()
                },
                "nights": {
                    name: _by_night(drawn) for name, (_, drawn) in stretch.by_candidate.items()
                },
            }
            for stretch in backtest.stretches
        ],
    }


def _by_night(drawn: BootstrapMetrics) -> dict[str, dict[str, Any]]:
    nights = zip(drawn.nights, drawn.by_night, strict=True)
    return {str(night): _told(found) for night, found in nights}


def _told(figures: dict[str, Any]) -> dict[str, Any]:
    """Without NaN, which is no JSON: a figure that is not defined, as without a fraud."""
    return {
        name: None if isinstance(value, float) and np.isnan(value) else value
        for name, value in figures.items()
    }


def to_json(backtest: Backtest) -> str:
    """The same as JSON text."""
    return json.dumps(as_plain(backtest), indent=1)


def show(backtest: Backtest) -> None:
    """Print the figures as a table."""
    from rich.table import Table

    plan = backtest.plan
    table = Table(title=f"{plan.recipe}, trained every {plan.retrain_days} days, on {plan.dates}")
    table.add_column("candidate", no_wrap=True)
    for heading in ("AUC ROC", "average precision", f"CP@{backtest.k}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for candidate in plan.candidates:
        means = [backtest.mean(candidate, name) for name in FIGURES]
        table.add_row(candidate, *map(_in_words, means))
    console = wide_console()
    console.print(table)
    train_s = sum(stretch.train_s for stretch in backtest.stretches)
    score_s = sum(stretch.score_s for stretch in backtest.stretches)
    judged = [stretch.by_candidate[plan.recipe][0] for stretch in backtest.stretches]
    console.print(
        f"{sum(found.num_transactions for found in judged)} transactions with "
        f"{sum(found.num_frauds for found in judged)} frauds; trainings: {len(judged)}, "
        f"{train_s:.0f} s; scoring, baselines included: {score_s:.0f} s"
    )


def _in_words(mean: Mean) -> str:
    if np.isnan(mean.value):
        return "not defined"
    if mean.interval is None:
        return f"{mean.value:.3f}"
    low, high = mean.interval
    return f"{mean.value:.3f} ({low:.3f} to {high:.3f})"
