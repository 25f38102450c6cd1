"""Train a challenger from what was known before a day, 00:00 UTC.

Reads   features, transactions and labels at one version each; no label that was not mature
Writes  _models/<training id> (checkpoint), the registry (a version, alias `challenger`)
Fails   when days of the context have no features, a rank fails, or rows get lost on the way

The contexts become a Parquet snapshot with a manifest; ranks read it through Petastorm; known
frauds are context but never targets. The training id follows from data, config and the number
of workers: a killed training goes on from its last epoch, a finished one is not repeated.

    fraud-scoring train --lake L --as-of 2018-07-25 --recipe lstm_autoencoder --num-workers 2
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from importlib.metadata import version as package_version
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from feature_defs.labels import known_before
from feature_defs.point_in_time import Knowledge, known_labels
from feature_defs.problems import InputMissing, UsageProblem
from fraud_models.calibration import MAX_CARDS_PER_NIGHT, PROBABILITIES, Calibration
from fraud_models.checkpoint import load_checkpoint, save_checkpoint
from fraud_models.config import ModelConfig
from fraud_models.distributed import train_distributed
from fraud_models.encoding import ColumnStatistics, Encoding
from fraud_models.event_batch import PACKED_DDL, ContextLimits, pack_contexts
from fraud_models.registry import CHALLENGER, EpochMetrics, Registration, Registry
from fraud_models.snapshot import (
    DATA_FOLDER,
    Manifest,
    read_manifest,
    summarise,
    verify,
    write_manifest,
)
from fraud_models.splits import TrainingDays, training_days
from fraud_models.training import TrainingRun
from jobs.contexts import RANKED_FIELDS, RankStream, apply_stream, context_dates, context_stream
from jobs.delivery import label_policy
from jobs.lake.delta_io import Dates, Lake
from jobs.lake.lineage import feature_fingerprints
from jobs.lake.runs import Run, recorded
from jobs.lake.tables import FEATURES_TABLE, LABELS, TRANSACTIONS
from jobs.model_store import open_registry

# Files per rank: enough to mix, few enough that each is worth a read.
FILES_PER_WORKER = 8
BYTES_PER_FILE = 64 * 2**20
QUANTILE_ACCURACY = 20_000


@dataclass(frozen=True)
class TrainingPlan:
    """What is to be trained."""

    as_of: date
    recipe: str
    config: ModelConfig
    num_workers: int

    def __post_init__(self) -> None:
        if self.num_workers < 1:
            raise UsageProblem(
                f"--num-workers is {self.num_workers}.",
                expected="one training process or more.",
                remedy="give a number of workers that the machine has cores or GPUs for.",
            )

    @property
    def days(self) -> TrainingDays:
        """What is context, what trains, what validates."""
        return training_days(self.as_of, self.config)

    @property
    def targets(self) -> Dates:
        """Nights whose events train or validate."""
        return Dates(self.days.train_from, self.as_of - timedelta(days=1))

    @property
    def validation(self) -> Dates:
        """Nights that validate and calibrate."""
        return Dates(self.days.validation_from, self.as_of - timedelta(days=1))


@dataclass(frozen=True)
class _Inputs:
    """Pinned input of one training."""

    plan: TrainingPlan
    versions: dict[str, int]
    fingerprints: dict[str, str]

    @property
    def training_id(self) -> str:
        """Same data, config and number of workers: same training."""
        parts = [
            self.plan.config.to_dict(),
            str(self.plan.as_of),
            self.plan.num_workers,
            self.versions,
            self.fingerprints,
            package_version("fraud-scoring"),
        ]
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def run(lake: Lake, plan: TrainingPlan) -> int:
    """Train, calibrate and register a model; returns its version, now the challenger.

    Raises:
        InputMissing: days without features, or a damaged snapshot.
        Problem: a rank failed; the message holds that rank's own traceback.
    """
    arguments = {
        "as_of": plan.as_of,
        "recipe": plan.recipe,
        "num_workers": plan.num_workers,
        "config": plan.config.to_dict(),
    }
    with recorded(lake, "train", plan.targets, arguments) as run:
        inputs = _pin(lake, plan)
        run.versions_in = inputs.versions
        run.figures["training_id"] = inputs.training_id
        registry = open_registry(lake)
        known = registry.find_by_training_id(inputs.training_id)
        version = known.version if known else _train(lake, inputs, registry, run)
        registry.set_alias(CHALLENGER, version)
        run.model_version = str(version)
    return version


def _pin(lake: Lake, plan: TrainingPlan) -> _Inputs:
    reach = context_dates(plan.targets, plan.config)
    available = feature_fingerprints(lake, reach)
    missing = [name for name in plan.config.columns if name not in available]
    if missing:
        raise UsageProblem(
            f"The recipe {plan.recipe} reads columns that the features of {reach} do not have: "
            f"{', '.join(missing)}.",
            expected=f"columns among {', '.join(sorted(available))}.",
            remedy=f"build the features of {reach} again, or correct the recipe.",
        )
    fingerprints = {name: available[name] for name in plan.config.columns}
    versions = lake.versions((TRANSACTIONS, LABELS, FEATURES_TABLE))
    return _Inputs(plan, versions, fingerprints)


def _train(lake: Lake, inputs: _Inputs, registry: Registry, run: Run) -> int:
    workplace = lake.path("_staging", f"train-{inputs.training_id}")
    snapshot, run_dir = f"{workplace}/snapshot", f"{workplace}/run"
    if not _is_whole(snapshot, inputs.plan.num_workers):
        _write_snapshot(lake, inputs, snapshot)
    training = TrainingRun(snapshot, run_dir, inputs.plan.config)
    summary = train_distributed(lake.spark, training, inputs.plan.num_workers)
    calibration = _calibrate(lake, inputs, summary["checkpoint_uri"], summary["sha256"])
    trained = load_checkpoint(summary["checkpoint_uri"], summary["sha256"])
    uri = lake.path("_models", inputs.training_id)
    sha256 = save_checkpoint(uri, replace(trained, calibration=calibration))
    run.rows["train_events"] = summary["num_train_events"]
    run.rows["validation_events"] = summary["num_validation_events"]
    run.figures["training"] = summary
    version = registry.register(_registration(inputs, uri, sha256, summary))
    lake.files.rm(workplace, recursive=True)
    return version


def _is_whole(snapshot: str, num_workers: int) -> bool:
    """Whether an earlier attempt left a snapshot that can be used."""
    try:
        verify(snapshot, read_manifest(snapshot), num_workers)
    except InputMissing:
        return False
    return True


def _registration(inputs: _Inputs, uri: str, sha256: str, summary: dict[str, Any]) -> Registration:
    config = inputs.plan.config
    return Registration(
        uri=uri,
        sha256=sha256,
        training_id=inputs.training_id,
        params={
            "recipe": inputs.plan.recipe,
            "as_of": str(inputs.plan.as_of),
            "num_workers": inputs.plan.num_workers,
            "hidden_width": config.network.hidden_width,
            "code_width": config.network.code_width,
            "train_days": config.train_days,
            "seed": config.optimisation.seed,
        },
        metrics={name: summary[name] for name in ("train_loss", "validation_loss", "seconds")},
        epochs=[
            EpochMetrics(
                number,
                {name: epoch[name] for name in ("train_loss", "validation_loss")},
            )
            for number, epoch in enumerate(summary["history"], start=1)
        ],
    )


def _write_snapshot(lake: Lake, inputs: _Inputs, uri: str) -> None:
    """Contexts of the training days as Parquet files of one row group, with their manifest."""
    config = inputs.plan.config
    events = _events_with_role(lake, inputs)
    statistics = _statistics(events.where("role_of_event = 1"), config)
    encoding = Encoding.fit(config.columns, statistics)
    stream = context_stream(events, inputs.plan.targets, config, F.col("role_of_event"))
    packed = stream.mapInArrow(_Pack(config), PACKED_DDL)
    num_events = max(item.num_rows for item in statistics.values())
    num_bytes = num_events * len(config.columns) * 4
    per_worker = max(FILES_PER_WORKER, num_bytes // BYTES_PER_FILE // inputs.plan.num_workers)
    # Dealt round robin, so that files are equal but for a few rows.
    files = packed.repartition(int(per_worker) * inputs.plan.num_workers)
    files.write.mode("overwrite").parquet(f"{uri}/{DATA_FOLDER}")
    manifest = Manifest(
        summary=summarise(uri),
        columns=inputs.fingerprints,
        encoding=encoding,
        data_versions=inputs.versions,
        as_of=str(inputs.plan.as_of),
        world_size=inputs.plan.num_workers,
    )
    write_manifest(uri, manifest)


@dataclass(frozen=True)
class _Pack:
    """Runs on executors: contexts of a sorted stream as rows of a snapshot."""

    config: ModelConfig

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return pack_contexts(batches, self.config.columns, ContextLimits.of(self.config))


def _events_with_role(lake: Lake, inputs: _Inputs) -> DataFrame:
    """Events that were known before `as_of`, with their role in training."""
    plan, days = inputs.plan, inputs.plan.days
    moment = known_before(plan.as_of)
    reach = context_dates(plan.targets, plan.config)
    features = lake.read(FEATURES_TABLE, inputs.versions[FEATURES_TABLE.name]).where(
        F.expr(reach.sql) & (F.col("event_time") < F.lit(moment))
    )
    known = Knowledge(
        transactions=features,
        labels=lake.read(LABELS, inputs.versions[LABELS.name]),
        policy=label_policy(lake),
    )
    frauds = known_labels(known, moment).where("is_fraud").select("transaction_id", "is_fraud")
    role = (
        F.when(F.col("is_fraud"), 0)
        .when(F.col("event_time") < F.lit(known_before(days.train_from)), 0)
        .when(F.col("event_time") < F.lit(known_before(days.validation_from)), 1)
        .otherwise(2)
    )
    return features.join(frauds, "transaction_id", "left").withColumn("role_of_event", role)


def _statistics(events: DataFrame, config: ModelConfig) -> dict[str, ColumnStatistics]:
    """Quantiles and nulls of every column over the training events, in one job."""
    probabilities = F.array(*(F.lit(step / 100) for step in range(101)))
    aggregates = [F.count("*").alias("num_rows")]
    for name in config.columns:
        value = F.col(name).cast("double")
        aggregates.append(F.count(value).alias(f"{name} there"))
        aggregates.append(
            F.percentile_approx(value, probabilities, QUANTILE_ACCURACY).alias(f"{name} quantiles")
        )
    row = events.agg(*aggregates).collect()[0]
    return {
        name: ColumnStatistics(
            num_rows=row["num_rows"],
            num_null=row["num_rows"] - row[f"{name} there"],
            quantiles=tuple(row[f"{name} quantiles"] or ()),
        )
        for name in config.columns
    }


def _calibrate(lake: Lake, inputs: _Inputs, uri: str, sha256: str) -> Calibration:
    """Rank the validation nights by the path that scores, and fit the calibration to them."""
    plan = inputs.plan
    reach = context_dates(plan.validation, plan.config)
    features = lake.read(FEATURES_TABLE, inputs.versions[FEATURES_TABLE.name]).where(
        F.expr(reach.sql) & (F.col("event_time") < F.lit(known_before(plan.as_of)))
    )
    stream = context_stream(features, plan.validation, plan.config, role=F.lit(1))
    ranked = apply_stream(stream, RankStream(uri, sha256), RANKED_FIELDS)
    ranked = ranked.select("business_date", "card_id", "ranking_value").persist()
    try:
        wanted = F.array(*(F.lit(float(probability)) for probability in PROBABILITIES))
        # Ranks are exact to 1 in 1,000,000 of the validation rows.
        quantiles = F.percentile_approx("ranking_value", wanted, 1_000_000)
        row = ranked.agg(quantiles.alias("quantiles"), F.count("*").alias("num_rows")).collect()[0]
        fitted = Calibration.fit(PROBABILITIES, row["quantiles"], row["num_rows"])
        return fitted.with_alert_thresholds(_top_scores(ranked, fitted))
    finally:
        ranked.unpersist()


def _top_scores(ranked: DataFrame, calibration: Calibration) -> list[list[float]]:
    """Per night the scores of its oddest cards; bounded by nights and the table's length."""
    per_card = ranked.groupBy("business_date", "card_id").agg(
        F.max("ranking_value").alias("ranking_value")
    )
    oddest = Window.partitionBy("business_date").orderBy(F.desc("ranking_value"))
    rows = (
        per_card.withColumn("rank", F.row_number().over(oddest))
        .where(F.col("rank") <= MAX_CARDS_PER_NIGHT)
        .groupBy("business_date")
        .agg(F.collect_list("ranking_value").alias("values"))
        .collect()
    )
    return [calibration.score(row["values"]).tolist() for row in rows]
