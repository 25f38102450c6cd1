"""Write the training snapshot: contexts at pinned versions as Parquet files, with a manifest.

All files have one row group and, up to a few rows, the same number of rows, so that every training
process reads the same amount. The snapshot contains only what was known before the `as_of` date,
which prevents data leakage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from feature_defs.catalogue import feature
from feature_defs.errors import InputMissing
from feature_defs.feature import Kind
from feature_defs.labels import LabelPolicy, known_before
from feature_defs.point_in_time.labels_as_of import FeatureInputs, labels_as_of
from fraud_models.config import ONE_CLASS, SEMI_SUPERVISED, UNSUPERVISED, ModelConfig
from fraud_models.sequences.encoding import ColumnStatistics, Encoding
from fraud_models.sequences.event_batch import (
    CONTEXT_ONLY,
    KNOWN_FRAUD,
    KNOWN_GENUINE,
    PACKED_DDL,
    PURPOSE_MASK,
    TARGET,
    VALIDATION_TARGET,
)
from fraud_models.sequences.vocabulary import Vocabulary
from fraud_models.training.snapshot import (
    DATA_FOLDER,
    Manifest,
    find_corruption,
    read_manifest,
    summarise,
    verify_manifest,
    write_manifest,
)
from jobs.deliveries.delivery_history import label_policy
from jobs.lake.delta_io import Lake
from jobs.lake.tables import FEATURES_TABLE, LABELS
from jobs.models.contexts import context_dates, context_stream
from jobs.models.executor_functions import PackStream
from jobs.models.training_plan import TrainingInputs

# Files per rank: enough to shuffle between, and few enough that each read is worth its overhead.
FILES_PER_WORKER = 8
BYTES_PER_FILE = 64 * 2**20
QUANTILE_ACCURACY = 20_000


@dataclass(frozen=True)
class TrainingTables:
    """Tables that a training reads, at their pinned versions."""

    features: DataFrame
    labels: DataFrame
    label_policy: LabelPolicy


def read_training_tables(lake: Lake, versions: Mapping[str, int]) -> TrainingTables:
    """Read features and labels at these versions, and the label policy of the lake."""
    return TrainingTables(
        lake.read(FEATURES_TABLE, versions[FEATURES_TABLE.name]),
        lake.read(LABELS, versions[LABELS.name]),
        label_policy(lake),
    )


def is_complete(spark: SparkSession, snapshot: str, num_workers: int) -> bool:
    """Return whether a snapshot of an earlier attempt is intact; executors read all its files."""
    try:
        manifest = read_manifest(snapshot)
        verify_manifest(snapshot, manifest, num_workers)
    except InputMissing:
        return False
    files = manifest.summary.files
    defects = spark.sparkContext.parallelize(files, len(files)).map(
        partial(find_corruption, snapshot)
    )
    return bool(defects.filter(lambda defect: defect is not None).isEmpty())


def write_snapshot(tables: TrainingTables, inputs: TrainingInputs, uri: str) -> None:
    """Write the contexts of the training days as Parquet files, with a manifest."""
    config = inputs.plan.config
    events = events_with_role(tables, inputs)
    _check_labels(events, inputs)
    targets = events.where(F.col("role_of_event").bitwiseAND(PURPOSE_MASK) == TARGET)
    statistics = _statistics(targets, config)
    encoding = Encoding.fit(config.columns, {**statistics, **vocabularies(targets, config)})
    stream = context_stream(events, inputs.plan.targets, config, F.col("role_of_event"))
    packed = stream.mapInArrow(PackStream(config, encoding), PACKED_DDL)
    num_events = max((item.num_rows for item in statistics.values()), default=0)
    num_bytes = num_events * len(config.columns) * 4
    per_worker = max(FILES_PER_WORKER, num_bytes // BYTES_PER_FILE // inputs.plan.num_workers)
    # Round-robin partitioning: the numbers of rows per file differ by a few rows at most.
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


def events_with_role(tables: TrainingTables, inputs: TrainingInputs) -> DataFrame:
    """Return the features of events before `as_of`, with their role in training, `role_of_event`.

    Roles are those of `fraud_models.sequences.event_batch`. Only labels that are mature at `as_of`,
    00:00 UTC, count; the newest of them is the label of an event.
    """
    plan, days = inputs.plan, inputs.plan.days
    moment = known_before(plan.as_of)
    dates = context_dates(plan.targets, plan.config)
    features = tables.features.where(F.expr(dates.sql) & (F.col("event_time") < F.lit(moment)))
    purpose = (
        F.when(F.col("event_time") < F.lit(known_before(days.train_from)), CONTEXT_ONLY)
        .when(F.col("event_time") < F.lit(known_before(days.validation_from)), TARGET)
        .otherwise(VALIDATION_TARGET)
    )
    if plan.config.supervision == UNSUPERVISED:
        return features.withColumn("role_of_event", purpose)
    label_inputs = FeatureInputs(features, tables.labels, tables.label_policy)
    labels = labels_as_of(label_inputs, moment).select("transaction_id", "is_fraud")
    if plan.config.supervision == ONE_CLASS:
        labels = labels.where("is_fraud")
    # Known frauds are never targets: the autoencoder must not learn to reconstruct them.
    role = F.when(F.col("is_fraud"), CONTEXT_ONLY).otherwise(purpose)
    if plan.config.supervision == SEMI_SUPERVISED:
        label_role = F.when(F.col("is_fraud"), KNOWN_FRAUD).when(~F.col("is_fraud"), KNOWN_GENUINE)
        role = role + F.coalesce(label_role, F.lit(0))
    return features.join(labels, "transaction_id", "left").withColumn("role_of_event", role)


def _check_labels(events: DataFrame, inputs: TrainingInputs) -> None:
    """Check that a semi-supervised training has labels of both classes.

    Raises:
        InputMissing: the training days have no known fraud, or no known genuine event.
    """
    if inputs.plan.config.supervision != SEMI_SUPERVISED:
        return
    role = F.col("role_of_event")
    row = (
        events.where(F.expr(inputs.plan.targets.sql))
        .agg(
            F.count_if(role.bitwiseAND(KNOWN_FRAUD) > 0).alias("frauds"),
            F.count_if(role.bitwiseAND(KNOWN_GENUINE) > 0).alias("genuine"),
        )
        .collect()[0]
    )
    if not row["frauds"] or not row["genuine"]:
        raise InputMissing(
            f"Of the events of {inputs.plan.targets}, {row['frauds']} are labelled fraud and "
            f"{row['genuine']} genuine.",
            expected="labels of both classes, because a semi-supervised model learns from both.",
            remedy="train as of a later date, ingest the labels, or choose a one_class recipe.",
        )


def _statistics(events: DataFrame, config: ModelConfig) -> dict[str, ColumnStatistics]:
    """Compute quantiles and null counts of numeric columns over the training events, in one job."""
    numeric = [name for name in config.columns if feature(name).kind is not Kind.CATEGORY]
    probabilities = F.array(*(F.lit(step / 100) for step in range(101)))
    aggregates = [F.count("*").alias("num_rows")]
    for name in numeric:
        value = F.col(name).cast("double")
        aggregates.append(F.count(value).alias(f"{name} present"))
        aggregates.append(
            F.percentile_approx(value, probabilities, QUANTILE_ACCURACY).alias(f"{name} quantiles")
        )
    row = events.agg(*aggregates).collect()[0]
    return {
        name: ColumnStatistics(
            num_rows=row["num_rows"],
            num_null=row["num_rows"] - row[f"{name} present"],
            quantiles=tuple(row[f"{name} quantiles"] or ()),
        )
        for name in numeric
    }


def vocabularies(events: DataFrame, config: ModelConfig) -> dict[str, Vocabulary]:
    """Return the vocabularies of the categorical columns, by name, from the training events.

    Counts are exact. The driver receives at most `max_categories` values per column, however many
    different values there are.
    """
    names = [name for name in config.columns if feature(name).kind is Kind.CATEGORY]
    if not names:
        return {}
    num_present = events.agg(*(F.count(name).alias(name) for name in names)).collect()[0]
    counts = (
        events.select(F.posexplode(F.array(*names)).alias("column", "value"))
        .where(F.col("value").isNotNull())
        .groupBy("column", "value")
        .agg(F.count("*").alias("num_rows"))
    )
    by_frequency = Window.partitionBy("column").orderBy(F.desc("num_rows"), "value")
    rows = (
        counts.withColumn("place", F.row_number().over(by_frequency))
        .where(F.col("place") <= config.max_categories)
        .collect()
    )
    by_column: dict[str, dict[str, int]] = {name: {} for name in names}
    for row in rows:
        by_column[names[row["column"]]][row["value"]] = row["num_rows"]
    return {
        name: Vocabulary.fit(by_column[name], num_present[name], config.max_categories)
        for name in names
    }
