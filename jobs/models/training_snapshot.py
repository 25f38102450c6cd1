"""The training snapshot: contexts of pinned versions as Parquet files, with their manifest.

Files are equal but for a few rows and hold one row group each, so that every training process
has the same to read. Nothing in it was known after the day that the training is as of.
"""

from __future__ import annotations

from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.errors import InputMissing
from feature_defs.labels import known_before
from feature_defs.point_in_time.labels_as_of import FeatureInputs, labels_as_of
from fraud_models.config import ONE_CLASS, SEMI_SUPERVISED, UNSUPERVISED, ModelConfig
from fraud_models.sequences.encoding import ColumnStatistics, Encoding
from fraud_models.sequences.event_batch import (
    CONTEXT_ONLY,
    KNOWN_FRAUD,
    KNOWN_GENUINE,
    PACKED_DDL,
    PURPOSE,
    TARGET,
    VALIDATION_TARGET,
)
from fraud_models.training.snapshot import (
    DATA_FOLDER,
    Manifest,
    damage,
    read_manifest,
    summarise,
    verify,
    write_manifest,
)
from jobs.deliveries.label_policy import label_policy
from jobs.lake.delta_io import Lake
from jobs.lake.tables import FEATURES_TABLE, LABELS
from jobs.models.contexts import context_dates, context_stream
from jobs.models.executor_functions import PackStream
from jobs.models.training_plan import TrainingInputs

# Files per rank: enough to mix, few enough that each is worth a read.
FILES_PER_WORKER = 8
BYTES_PER_FILE = 64 * 2**20
QUANTILE_ACCURACY = 20_000


def is_complete(lake: Lake, snapshot: str, num_workers: int) -> bool:
    """Whether an earlier attempt left a snapshot that can be used; executors read it all."""
    try:
        manifest = read_manifest(snapshot)
        verify(snapshot, manifest, num_workers)
    except InputMissing:
        return False
    files = manifest.summary.files
    read = lake.spark.sparkContext.parallelize(files, len(files)).map(partial(damage, snapshot))
    return bool(read.filter(lambda fault: fault is not None).isEmpty())


def write_snapshot(lake: Lake, inputs: TrainingInputs, uri: str) -> None:
    """Contexts of the training days as Parquet files of one row group, with their manifest."""
    config = inputs.plan.config
    events = events_with_role(lake, inputs)
    _check_labels(events, inputs)
    targets = events.where(F.col("role_of_event").bitwiseAND(PURPOSE) == TARGET)
    statistics = _statistics(targets, config)
    encoding = Encoding.fit(config.columns, statistics)
    stream = context_stream(events, inputs.plan.targets, config, F.col("role_of_event"))
    packed = stream.mapInArrow(PackStream(config), PACKED_DDL)
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


def events_with_role(lake: Lake, inputs: TrainingInputs) -> DataFrame:
    """Features of events before `as_of`, with `role_of_event`, their role in training.

    Roles are those of `fraud_models.sequences.event_batch`. Only labels that are mature at `as_of`, 00:00
    UTC, say anything; the label of an event is the latest of them.
    """
    plan, days = inputs.plan, inputs.plan.days
    moment = known_before(plan.as_of)
    reach = context_dates(plan.targets, plan.config)
    features = lake.read(FEATURES_TABLE, inputs.versions[FEATURES_TABLE.name]).where(
        F.expr(reach.sql) & (F.col("event_time") < F.lit(moment))
    )
    purpose = (
        F.when(F.col("event_time") < F.lit(known_before(days.train_from)), CONTEXT_ONLY)
        .when(F.col("event_time") < F.lit(known_before(days.validation_from)), TARGET)
        .otherwise(VALIDATION_TARGET)
    )
    if plan.config.supervision == UNSUPERVISED:
        return features.withColumn("role_of_event", purpose)
    known = FeatureInputs(
        transactions=features,
        labels=lake.read(LABELS, inputs.versions[LABELS.name]),
        policy=label_policy(lake),
    )
    labels = labels_as_of(known, moment).select("transaction_id", "is_fraud")
    if plan.config.supervision == ONE_CLASS:
        labels = labels.where("is_fraud")
    # What is known to be fraud is never a target: the autoencoder is not to describe it well.
    role = F.when(F.col("is_fraud"), CONTEXT_ONLY).otherwise(purpose)
    if plan.config.supervision == SEMI_SUPERVISED:
        told = F.when(F.col("is_fraud"), KNOWN_FRAUD).when(~F.col("is_fraud"), KNOWN_GENUINE)
        role = role + F.coalesce(told, F.lit(0))
    return features.join(labels, "transaction_id", "left").withColumn("role_of_event", role)


def _check_labels(events: DataFrame, inputs: TrainingInputs) -> None:
    """Check that a head has both kinds of labels to learn from.

    Raises:
        InputMissing: no event of the training days is known to be a fraud, or to be genuine.
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
            f"Of the events of {inputs.plan.targets}, {row['frauds']} are known to be frauds and "
            f"{row['genuine']} to be genuine.",
            expected="some of both: a semi-supervised model learns to tell them apart.",
            remedy="train as of a later day, ingest the labels, or choose a one_class recipe.",
        )


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
