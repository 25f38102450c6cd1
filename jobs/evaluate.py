"""Evaluate a model on nights with mature labels, beside the champion and a baseline.

Reads   features, transactions, labels (one version each), the registry
Writes  metrics (of the model, the champion if it is another one, and the isolation forest)
Fails   when a model was trained on one of the nights, or labels of the nights are not mature yet

The protocol is the handbook's: a card that is known to be compromised when a night begins is left
out of it; card precision at k is computed per night and averaged, and cards that were detected
are removed from later nights.

    fraud-scoring evaluate --lake L --from 2018-07-25 --to 2018-07-31
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from feature_defs.errors import UsageError
from fraud_models.evaluation.splits import is_out_of_sample
from fraud_models.registry.mlflow_registry import CHAMPION, ModelVersion, Registry
from jobs.evaluation.baselines import ISOLATION_FOREST
from jobs.evaluation.candidates import add_isolation_forest, add_ranking_values
from jobs.evaluation.eligible_rows import (
    EVALUATED_TABLES,
    read_evaluation_tables,
    rows_to_evaluate,
)
from jobs.evaluation.metrics_table import Metric, append_metrics
from jobs.evaluation.ranking_metrics import RankingMetrics, ranking_metrics
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run, record_run
from jobs.lake.tables import FEATURES_TABLE
from jobs.models.contexts import ScoringInputs, read_scoring_inputs
from jobs.models.model_store import open_registry


@dataclass(frozen=True)
class Evaluation:
    """Metrics of each candidate on the same rows."""

    dates: Dates
    k: int
    model: str
    incumbent: str
    by_candidate: dict[str, RankingMetrics]


def run(lake: Lake, dates: Dates, model_name: str) -> Evaluation:
    """Evaluate a model, the champion and the isolation forest on the same rows.

    Raises:
        InputMissing: there is no such model, labels are not mature, or features are missing.
        UsageError: a model was trained on one of the nights.
    """
    k = lake.settings.alert_budget
    with record_run(lake, "evaluate", dates, {"model": model_name, "k": k}) as run:
        registry = open_registry(lake)
        model = registry.resolve(model_name)
        models = _with_champion(model, registry)
        run.model_version = str(model.version)
        run.versions_in = lake.versions(EVALUATED_TABLES)
        tables = read_evaluation_tables(lake, run.versions_in)
        inputs = _scoring_inputs(lake, dates, run.versions_in[FEATURES_TABLE.name], models)

        rows = add_ranking_values(rows_to_evaluate(tables, dates), inputs)
        rows = add_isolation_forest(rows, tables, model, dates)
        with lake.staging(run.run_id) as stage:
            staged = stage(rows, "evaluated")
            candidates = (*models, ISOLATION_FOREST)
            by_candidate = {name: ranking_metrics(staged, name, k) for name in candidates}

        incumbent = next((name for name in models if name != _name(model)), ISOLATION_FOREST)
        evaluation = Evaluation(dates, k, _name(model), incumbent, by_candidate)
        _write_metrics(lake, evaluation, run)
    return evaluation


def _name(model: ModelVersion) -> str:
    return f"version_{model.version}"


def _with_champion(model: ModelVersion, registry: Registry) -> dict[str, ModelVersion]:
    """Return the model and, where there is another one in service, the champion; by name."""
    models = {_name(model): model}
    if CHAMPION in registry.list_aliases():
        champion = registry.resolve(CHAMPION)
        models.setdefault(_name(champion), champion)
    return models


def _scoring_inputs(
    lake: Lake, dates: Dates, version: int, models: dict[str, ModelVersion]
) -> dict[str, ScoringInputs]:
    """Read what each model scores.

    Raises:
        UsageError: a model was trained on one of the nights; evaluate later nights.
    """
    inputs = {}
    for name, model in models.items():
        inputs[name] = read_scoring_inputs(lake, dates, version, model)
        as_of = inputs[name].as_of
        if not is_out_of_sample(as_of, dates.first):
            raise UsageError(
                f"Model version {model.version} was trained as of {as_of} and has seen nights of "
                f"{dates}.",
                expected=f"nights from {as_of} on.",
                remedy="evaluate later nights, or a model trained as of an earlier day.",
            )
    return inputs


def _write_metrics(lake: Lake, evaluation: Evaluation, run: Run) -> None:
    metrics = (
        Metric(candidate, name, value)
        for candidate, found in evaluation.by_candidate.items()
        for name, value in asdict(found).items()
    )
    append_metrics(lake, run, evaluation.dates, evaluation.k, metrics)
    first = next(iter(evaluation.by_candidate.values()))
    run.rows.update(judged=first.num_transactions, frauds=first.num_frauds)
    run.figures = {
        "k": evaluation.k,
        "incumbent": evaluation.incumbent,
        "figures": {name: asdict(found) for name, found in evaluation.by_candidate.items()},
    }


def show(evaluation: Evaluation) -> None:
    """Print the metrics as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{evaluation.model} on {evaluation.dates}")
    table.add_column("candidate")
    for heading in ("AUC ROC", "average precision", f"CP@{evaluation.k}", "rows", "frauds"):
        table.add_column(heading, justify="right")
    for name, found in evaluation.by_candidate.items():
        table.add_row(
            name,
            f"{found.roc_auc:.3f}",
            f"{found.average_precision:.3f}",
            f"{found.cp_at_k:.3f}",
            str(found.num_transactions),
            str(found.num_frauds),
        )
    Console().print(table)
