"""Replay nights with a recipe: train, evaluate the following nights, train again.

Reads   features, transactions, labels (one version each), the registry
Writes  the registry (a version per training; no alias changes), metrics
Fails   when labels of the nights are not mature yet, or a training fails

Every `retrain_days` a model is trained as of that day, on what was known then, and evaluated on
the nights up to the next training: one retraining period. Two baselines rank the same rows: an
isolation forest, and gradient-boosted trees on the model's own columns and the labels that were
mature. Each period follows the protocol of `evaluate`. Metrics are means over the periods. Their
95 % intervals are a bootstrap over cards and over the nights of a period, so with periods of one
night they do not include the variation between nights.

    fraud-scoring backtest --lake L --from 2018-07-18 --to 2018-08-14 --recipe rarity_autoencoder
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from feature_defs.errors import UsageError
from fraud_models.config import ModelConfig
from fraud_models.evaluation.bootstrap import interval
from jobs import train
from jobs.evaluation.baselines import BOOSTED_TREES, ISOLATION_FOREST
from jobs.evaluation.bootstrap import BootstrapMetrics, bootstrap_metrics
from jobs.evaluation.candidates import (
    add_boosted_trees,
    add_isolation_forest,
    add_ranking_values,
)
from jobs.evaluation.eligible_rows import (
    EVALUATED_TABLES,
    EvaluationTables,
    read_evaluation_tables,
    rows_to_evaluate,
)
from jobs.evaluation.metrics_table import Metric, append_metrics
from jobs.evaluation.ranking_metrics import RankingMetrics, ranking_metrics
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run, record_run
from jobs.lake.tables import FEATURES_TABLE
from jobs.models.contexts import read_scoring_inputs
from jobs.models.model_store import open_registry
from jobs.models.training_plan import TrainingPlan
from jobs.runtime.logs import log_event, wide_console

METRICS = ("roc_auc", "average_precision", "cp_at_k")


@dataclass(frozen=True)
class BacktestPlan:
    """Which nights to replay, with which recipe, and how often to retrain."""

    dates: Dates
    recipe: str
    config: ModelConfig
    num_workers: int = 1
    retrain_days: int = 7
    with_baselines: bool = True
    """Whether to fit the isolation forest and the boosted trees anew beside each model."""

    def __post_init__(self) -> None:
        if self.retrain_days < 1:
            raise UsageError(
                f"--retrain-days is {self.retrain_days}.",
                expected="1 or more.",
                remedy="set --retrain-days to the number of days between two trainings.",
            )

    @property
    def candidates(self) -> tuple[str, ...]:
        """Return the names of what is compared: the recipe, then the baselines."""
        return (self.recipe, *((ISOLATION_FOREST, BOOSTED_TREES) if self.with_baselines else ()))

    @property
    def periods(self) -> tuple[Dates, ...]:
        """Return the nights of each retraining period; the last period may be shorter."""
        days = self.dates.days[:: self.retrain_days]
        ends = (*(day - timedelta(days=1) for day in days[1:]), self.dates.last)
        return tuple(Dates(first, last) for first, last in zip(days, ends, strict=True))


@dataclass(frozen=True)
class RetrainingPeriod:
    """Metrics of one model and the baselines on the nights after its training."""

    dates: Dates
    model_version: int
    train_s: float
    score_s: float
    by_candidate: dict[str, tuple[RankingMetrics, BootstrapMetrics]]


@dataclass(frozen=True)
class Mean:
    """Mean of a metric over all periods, with its 95 % interval if there is one."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Backtest:
    """Results of a backtest; `k` is the alert budget per night."""

    plan: BacktestPlan
    k: int
    periods: tuple[RetrainingPeriod, ...]

    def mean(self, candidate: str, name: str) -> Mean:
        """Return the unweighted mean of a candidate's metric over the periods that have it.

        A period without a fraud has neither AUC ROC nor average precision. The mean is NaN when no
        period has the metric.
        """
        pairs = [period.by_candidate[candidate] for period in self.periods]
        pairs = [pair for pair in pairs if np.isfinite(getattr(pair[0], name))]
        if not pairs:
            return Mean(float("nan"), None)
        value = float(np.mean([getattr(metrics, name) for metrics, _ in pairs]))
        replicates = np.mean([getattr(bootstrap, name) for _, bootstrap in pairs], axis=0)
        return Mean(value, interval(value, replicates))


def run(lake: Lake, plan: BacktestPlan) -> Backtest:
    """Train and evaluate, one retraining period after the other.

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
        run.versions_in = lake.versions(EVALUATED_TABLES)
        tables = read_evaluation_tables(lake, run.versions_in)
        # Immature labels are refused here, before hours of training.
        for dates in plan.periods:
            rows_to_evaluate(tables, dates)
        periods = tuple(_run_period(lake, plan, dates, tables, run) for dates in plan.periods)
        backtest = Backtest(plan, k, periods)
        _write_metrics(lake, backtest, run)
    return backtest


def _run_period(
    lake: Lake, plan: BacktestPlan, dates: Dates, tables: EvaluationTables, run: Run
) -> RetrainingPeriod:
    """Train a model as of the first night, then evaluate it and the baselines on the period."""
    log_event(f"training {plan.recipe} as of {dates.first} to evaluate it on {dates}")
    started = time.monotonic()
    version = train.register(
        lake, TrainingPlan(dates.first, plan.recipe, plan.config, plan.num_workers)
    )
    trained = time.monotonic()
    model = open_registry(lake).resolve(str(version))
    inputs = read_scoring_inputs(lake, dates, run.versions_in[FEATURES_TABLE.name], model)
    rows = add_ranking_values(rows_to_evaluate(tables, dates), {plan.recipe: inputs})
    if plan.with_baselines:
        rows = add_isolation_forest(rows, tables, model, dates)
        rows = add_boosted_trees(rows, tables, model, dates)
    staged = lake.stage(rows, run.run_id, f"backtested-{dates.first}")
    scored = time.monotonic()
    k = lake.settings.alert_budget
    by_candidate = {
        name: (ranking_metrics(staged, name, k), bootstrap_metrics(staged, name, k))
        for name in plan.candidates
    }
    lake.discard_staged(run.run_id)
    return RetrainingPeriod(dates, version, trained - started, scored - trained, by_candidate)


def _write_metrics(lake: Lake, backtest: Backtest, run: Run) -> None:
    means = (
        (candidate, name, backtest.mean(candidate, name))
        for candidate in backtest.plan.candidates
        for name in METRICS
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
    """Return the results as values that JSON can store: overall, by period and by night."""
    plan = backtest.plan
    return {
        "recipe": plan.recipe,
        "from": str(plan.dates.first),
        "to": str(plan.dates.last),
        "retrain_days": plan.retrain_days,
        "k": backtest.k,
        "overall": {
            candidate: {
                name: _nan_to_none(asdict(backtest.mean(candidate, name))) for name in METRICS
            }
            for candidate in plan.candidates
        },
        "stretches": [
            {
                "from": str(period.dates.first),
                "to": str(period.dates.last),
                "model_version": period.model_version,
                "train_s": round(period.train_s, 1),
                "score_s": round(period.score_s, 1),
                "figures": {
                    name: _nan_to_none(asdict(metrics))
                    for name, (metrics, _) in period.by_candidate.items()
                },
                "nights": {
                    name: _by_night(bootstrap)
                    for name, (_, bootstrap) in period.by_candidate.items()
                },
            }
            for period in backtest.periods
        ],
    }


def _by_night(bootstrap: BootstrapMetrics) -> dict[str, dict[str, Any]]:
    nights = zip(bootstrap.nights, bootstrap.by_night, strict=True)
    return {str(night): _nan_to_none(metrics) for night, metrics in nights}


def _nan_to_none(metrics: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN (a metric that is not defined) by None, because JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and np.isnan(value) else value
        for name, value in metrics.items()
    }


def to_json(backtest: Backtest) -> str:
    """Return the results of a backtest as JSON text."""
    return json.dumps(as_plain(backtest), indent=1)


def show(backtest: Backtest) -> None:
    """Print the metrics as a table."""
    from rich.table import Table

    plan = backtest.plan
    table = Table(title=f"{plan.recipe}, trained every {plan.retrain_days} days, on {plan.dates}")
    table.add_column("candidate", no_wrap=True)
    for heading in ("AUC ROC", "average precision", f"CP@{backtest.k}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for candidate in plan.candidates:
        means = [backtest.mean(candidate, name) for name in METRICS]
        table.add_row(candidate, *map(_format_metric, means))
    console = wide_console()
    console.print(table)
    train_s = sum(period.train_s for period in backtest.periods)
    score_s = sum(period.score_s for period in backtest.periods)
    metrics = [period.by_candidate[plan.recipe][0] for period in backtest.periods]
    console.print(
        f"{sum(one.num_transactions for one in metrics)} transactions with "
        f"{sum(one.num_frauds for one in metrics)} frauds; trainings: {len(metrics)}, "
        f"{train_s:.0f} s; scoring, baselines included: {score_s:.0f} s"
    )


def _format_metric(mean: Mean) -> str:
    """Return a mean with its interval, as `0.912 (0.874 to 0.941)`."""
    if np.isnan(mean.value):
        return "not defined"
    if mean.interval is None:
        return f"{mean.value:.3f}"
    low, high = mean.interval
    return f"{mean.value:.3f} ({low:.3f} to {high:.3f})"
