"""Figures of a model on nights whose labels are mature, beside the baselines on the same rows.

Reads   features, transactions, labels (one version each), the registry
Writes  metrics (model, champion if there is another, isolation forest)
Fails   when a model has seen one of the nights, or labels of the nights are not mature yet

The protocol is the handbook's: cards known to be compromised when a night begins are out of that
night; card precision at k is per night, averaged, and cards that were detected are removed.

    fraud-scoring evaluate --lake L --from 2018-07-25 --to 2018-07-31
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date

from feature_defs.errors import UsageError
from fraud_models.evaluation.splits import is_out_of_sample
from fraud_models.registry.mlflow_registry import CHAMPION, ModelVersion, Registry
from jobs.evaluation.baselines import ISOLATION_FOREST
from jobs.evaluation.candidates import with_forest, with_values
from jobs.evaluation.eligible_rows import rows_to_evaluate
from jobs.evaluation.metrics_table import Metric, append_metrics
from jobs.evaluation.ranking_metrics import RankingMetrics, figures
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.runs import Run, record_run
from jobs.lake.tables import FEATURES_TABLE, LABELS, TRANSACTIONS
from jobs.models.model_store import open_registry, read_checkpoint


@dataclass(frozen=True)
class Evaluation:
    """Figures by candidate on the same rows."""

    dates: Dates
    k: int
    model: str
    incumbent: str
    by_candidate: dict[str, RankingMetrics]


def run(lake: Lake, dates: Dates, model_name: str) -> Evaluation:
    """Evaluate a model, the champion and the isolation forest on the same rows.

    Raises:
        InputMissing: no such model, labels not mature, or features missing.
        UsageError: a model was trained on one of the nights.
    """
    k = lake.settings.alert_budget
    with record_run(lake, "evaluate", dates, {"model": model_name, "k": k}) as run:
        registry = open_registry(lake)
        model = registry.resolve(model_name)
        models = {_name(model): model}
        champion = _champion(registry)
        if champion is not None:
            models.setdefault(_name(champion), champion)
        run.model_version = str(model.version)
        run.versions_in = lake.versions((FEATURES_TABLE, TRANSACTIONS, LABELS))
        for candidate in models.values():
            _refuse_in_sample(candidate, dates)
        rows = with_values(lake, rows_to_evaluate(lake, dates, run), models, dates, run)
        rows = with_forest(lake, rows, model, dates, run)
        staged = lake.stage(rows, run.run_id, "evaluated")
        by_candidate = {name: figures(staged, name, k) for name in (*models, ISOLATION_FOREST)}
        incumbent = next((name for name in models if name != _name(model)), ISOLATION_FOREST)
        evaluation = Evaluation(dates, k, _name(model), incumbent, by_candidate)
        _write_metrics(lake, evaluation, run)
        lake.discard_staged(run.run_id)
    return evaluation


def _name(model: ModelVersion) -> str:
    return f"version_{model.version}"


def _champion(registry: Registry) -> ModelVersion | None:
    """The champion, or nothing before the first promotion."""
    return registry.resolve(CHAMPION) if CHAMPION in registry.list_aliases() else None


def _refuse_in_sample(model: ModelVersion, dates: Dates) -> None:
    as_of = read_checkpoint(model).as_of
    if not is_out_of_sample(date.fromisoformat(as_of), dates.first):
        raise UsageError(
            f"Model version {model.version} was trained as of {as_of} and has seen nights of "
            f"{dates}.",
            expected=f"nights from {as_of} on.",
            remedy="evaluate later nights, or a model trained as of an earlier day.",
        )


def _write_metrics(lake: Lake, evaluation: Evaluation, run: Run) -> None:
    append_metrics(
        lake,
        run,
        evaluation.dates,
        evaluation.k,
        (
            Metric(candidate, name, value)
            for candidate, found in evaluation.by_candidate.items()
            for name, value in asdict(found).items()
        ),
    )
    first = next(iter(evaluation.by_candidate.values()))
    run.rows.update(judged=first.num_transactions, frauds=first.num_frauds)
    run.figures = {
        "k": evaluation.k,
        "incumbent": evaluation.incumbent,
        "figures": {name: asdict(found) for name, found in evaluation.by_candidate.items()},
    }


def show(evaluation: Evaluation) -> None:
    """Print the figures as a table."""
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
