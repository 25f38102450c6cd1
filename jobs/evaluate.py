"""Figures of a model on nights whose labels are mature, beside the baselines on the same rows.

Reads   features, transactions, labels (one version each), the registry
Writes  metrics (model, champion if there is another, isolation forest)
Fails   when a model has seen one of the nights, or labels of the nights are not mature yet

The protocol is the handbook's: cards known to be compromised when a night begins are out of that
night; card precision at k is per night, averaged, and cards that were detected are removed.

    fraud-scoring evaluate --lake L --from 2018-07-25 --to 2018-07-31
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_defs.labels import known_before
from feature_defs.point_in_time import Knowledge, known_labels
from feature_defs.problems import InputMissing, UsageProblem
from fraud_models.registry import CHAMPION, ModelVersion, Registry
from fraud_models.splits import KNOWN_FRAUD_LOOKBACK_DAYS, is_out_of_sample
from jobs.baseline_scores import ISOLATION_FOREST, isolation_forest
from jobs.contexts import score_nights
from jobs.earlier_deliveries import label_policy
from jobs.lake.delta_io import Dates, Lake
from jobs.lake.runs import Run, now, recorded
from jobs.lake.tables import FEATURES_TABLE, LABELS, METRICS, NIGHTS, TRANSACTIONS
from jobs.model_store import open_registry, read_checkpoint
from jobs.ranking_figures import Figures, figures

# Below this share of transactions with a mature label a night cannot be judged.
LEAST_LABELLED_SHARE = 0.99


@dataclass(frozen=True)
class Evaluation:
    """Figures by candidate on the same rows."""

    dates: Dates
    k: int
    model: str
    incumbent: str
    by_candidate: dict[str, Figures]


def run(lake: Lake, dates: Dates, model_name: str) -> Evaluation:
    """Evaluate a model, the champion and the isolation forest on the same rows.

    Raises:
        InputMissing: no such model, labels not mature, or features missing.
        UsageProblem: a model was trained on one of the nights.
    """
    k = lake.settings.alert_budget
    with recorded(lake, "evaluate", dates, {"model": model_name, "k": k}) as run:
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
        rows = with_values(lake, judged_rows(lake, dates, run), models, dates, run)
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
        raise UsageProblem(
            f"Model version {model.version} was trained as of {as_of} and has seen nights of "
            f"{dates}.",
            expected=f"nights from {as_of} on.",
            remedy="evaluate later nights, or a model trained as of an earlier day.",
        )


def judged_rows(lake: Lake, dates: Dates, run: Run) -> DataFrame:
    """Keys of the nights' transactions with a mature label; known cards are out.

    `run` names the versions of the tables that are read.

    Raises:
        InputMissing: there are no rows, or nights whose labels are not mature yet.
    """
    newest = lake.read(NIGHTS).agg(F.max("business_date")).collect()[0][0]
    moment = min(now(), known_before(newest + timedelta(days=1)))
    early = dates.first - timedelta(days=KNOWN_FRAUD_LOOKBACK_DAYS)
    transactions = lake.read(TRANSACTIONS, run.versions_in[TRANSACTIONS.name])
    near = transactions.where(F.col("business_date").between(F.lit(early), F.lit(dates.last)))
    labels = lake.read(LABELS, run.versions_in[LABELS.name])
    known = known_labels(Knowledge(near, labels, label_policy(lake)), moment)
    nights = near.where(F.expr(dates.sql)).join(known, "transaction_id", "left")
    _check_mature(nights, dates, str(moment))
    labelled = nights.where(F.col("is_fraud").isNotNull())
    told = near.select("card_id", "transaction_id", "event_time").join(
        labels.select("transaction_id", "label_time", "is_fraud"), "transaction_id"
    )
    rows = in_play(labelled, told, dates.first)
    return rows.select("business_date", "transaction_id", "card_id", "is_fraud")


def in_play(rows: DataFrame, told: DataFrame, first: date) -> DataFrame:
    """Rows of cards that nobody had reason to block when their night began, 00:00 UTC.

    `told` has every label of the cards' events: `card_id, transaction_id, event_time, label_time,
    is_fraud`. A card is out of the nights that begin when the newest label of one of its events
    says fraud: from the first such label on, unless it is withdrawn. Events from more than two
    weeks before the first night are forgotten, as in the handbook's protocol.
    """
    since = known_before(first - timedelta(days=KNOWN_FRAUD_LOOKBACK_DAYS))
    recent = told.where(F.col("event_time") >= F.lit(since))
    suspected = recent.where("is_fraud").select("transaction_id").distinct()
    nights = rows.select("business_date").distinct()
    begins = F.col("business_date").cast("timestamp")
    blocked = (
        recent.join(suspected, "transaction_id", "left_semi")
        .join(F.broadcast(nights), F.col("label_time") <= begins)
        .groupBy("business_date", "card_id", "transaction_id")
        .agg(F.max(F.struct("label_time", "is_fraud")).alias("newest"))
        .where("newest.is_fraud")
    )
    return rows.join(blocked, ["business_date", "card_id"], "left_anti")


def _check_mature(nights: DataFrame, dates: Dates, moment: str) -> None:
    """Check that the nights can be judged.

    Raises:
        InputMissing: there are no rows, or nights whose labels are not mature yet; all are named.
    """
    per_night = (
        nights.groupBy("business_date")
        .agg(F.count("*").alias("n"), F.count("is_fraud").alias("labelled"))
        .orderBy("business_date")
        .collect()
    )
    immature = [
        f"{row['business_date']} ({row['labelled']} of {row['n']})"
        for row in per_night
        if row["labelled"] < LEAST_LABELLED_SHARE * row["n"]
    ]
    if immature or not per_night:
        raise InputMissing(
            f"The nights {dates} cannot be judged at {moment}: "
            + (
                f"too few labels are mature on {', '.join(immature)}."
                if immature
                else "they have no transactions."
            ),
            expected="nights with transactions whose labels are mature.",
            remedy="evaluate earlier nights, or ingest the nights that bring the labels.",
        )


def with_values(
    lake: Lake, judged: DataFrame, models: dict[str, ModelVersion], dates: Dates, run: Run
) -> DataFrame:
    """The judged rows with the ranking value of each model."""
    version = run.versions_in[FEATURES_TABLE.name]
    keys = ["business_date", "transaction_id"]
    rows = judged
    for name, model in models.items():
        scored = score_nights(lake, dates, version, model)
        rows = rows.join(scored.select(*keys, F.col("ranking_value").alias(name)), keys)
    return rows


def with_forest(
    lake: Lake, rows: DataFrame, model: ModelVersion, dates: Dates, run: Run
) -> DataFrame:
    """The rows with how odd an isolation forest of the model's training days finds them."""
    features = lake.read(FEATURES_TABLE, run.versions_in[FEATURES_TABLE.name])
    odd = isolation_forest(features, model).alias(ISOLATION_FOREST)
    return with_column_of(features, rows, odd, dates)


def with_column_of(features: DataFrame, rows: DataFrame, column: Column, dates: Dates) -> DataFrame:
    """The rows of some nights with a column that is made of their features."""
    keys = ["business_date", "transaction_id"]
    return rows.join(features.where(F.expr(dates.sql)).select(*keys, column), keys)


@dataclass(frozen=True)
class Metric:
    """A figure of a candidate, with its 95 % interval where there is one."""

    candidate: str
    name: str
    value: float
    interval: tuple[float, float] | None = None


def append_metrics(lake: Lake, run: Run, dates: Dates, k: int, metrics: Iterable[Metric]) -> None:
    """Keep what a run has found about some nights."""
    moment = now()
    rows = [
        (
            run.run_id,
            metric.candidate,
            dates.first,
            dates.last,
            f"cp_at_{k}" if metric.name == "cp_at_k" else metric.name,
            float(metric.value),
            *(metric.interval or (None, None)),
            moment,
        )
        for metric in metrics
    ]
    frame = lake.spark.createDataFrame(rows, METRICS.ddl)
    run.versions_out[METRICS.name] = lake.append(METRICS, frame.coalesce(1), run.run_id)


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
