"""Train a challenger from what was known before a day, 00:00 UTC.

Reads   features, transactions and labels, one version each; only labels that were mature by then
Writes  _models/<training id> (checkpoint, model card), the registry (a version, alias `challenger`)
Fails   when days of the context have no features, a rank fails, or rows are lost on the way

The contexts become a Parquet snapshot with a manifest, which the ranks read through Petastorm.
Known frauds are context but never targets. The training id follows from data, config and the
number of workers: a training that was killed resumes after its last epoch, a finished one is not
repeated.

    fraud-scoring train --lake L --as-of 2018-07-25 --recipe lstm_autoencoder --num-workers 2
"""

from __future__ import annotations

from typing import Any

from feature_defs.catalogue import require_available
from feature_defs.errors import InputMissing, UsageError
from fraud_models.registry.checkpoint import save_checkpoint
from fraud_models.registry.mlflow_registry import CHALLENGER, EpochMetrics, Registration, Registry
from fraud_models.registry.model_card import MODEL_CARD_FILE, model_card
from fraud_models.storage import join, write_bytes
from fraud_models.training.distributed import train_distributed
from fraud_models.training.loop import TrainingRun
from jobs.lake.delta_io import Lake
from jobs.lake.run_history import feature_fingerprints
from jobs.lake.runs import record_run
from jobs.lake.tables import FEATURES_TABLE, LABELS, TRANSACTIONS
from jobs.models.calibration import calibrate
from jobs.models.contexts import context_dates
from jobs.models.executor_functions import StoredModel
from jobs.models.model_store import open_registry, read_checkpoint
from jobs.models.training_plan import TrainingInputs, TrainingPlan
from jobs.models.training_snapshot import is_complete, read_training_tables, write_snapshot
from jobs.runtime.logs import log_event


def run(lake: Lake, plan: TrainingPlan) -> int:
    """Train, calibrate and register a model, and make it the challenger; return its version.

    Raises:
        InputMissing: days of the context have no features, or the snapshot is damaged.
        FraudScoringError: a rank failed; the message holds the traceback of that rank.
    """
    version = register(lake, plan)
    open_registry(lake).set_alias(CHALLENGER, version)
    return version


def register(lake: Lake, plan: TrainingPlan) -> int:
    """Train, calibrate and register a model without an alias; return its version.

    Raises:
        As `run`.
    """
    arguments = {
        "as_of": plan.as_of,
        "recipe": plan.recipe,
        "num_workers": plan.num_workers,
        "config": plan.config.to_dict(),
    }
    with record_run(lake, "train", plan.targets, arguments) as run:
        inputs = _pin(lake, plan)
        run.versions_in = inputs.versions
        run.figures["training_id"] = inputs.training_id
        registry = open_registry(lake)
        version = _registered_version(registry, inputs.training_id)
        if version is None:
            trained, summary = _train(lake, inputs)
            run.rows["train_events"] = summary["num_train_events"]
            run.rows["validation_events"] = summary["num_validation_events"]
            run.figures["training"] = summary
            version = registry.register(_registration(inputs, trained, summary))
            lake.files.rm(_work_folder(lake, inputs), recursive=True)
        run.model_version = str(version)
    return version


def _registered_version(registry: Registry, training_id: str) -> int | None:
    """Return the version that an identical training has registered, or None.

    A damaged model counts as none: it is trained again.
    """
    known = registry.find_by_training_id(training_id)
    if known is None:
        return None
    try:
        read_checkpoint(known)
    except InputMissing as damaged:
        log_event(f"version {known.version} is damaged and trained again: {damaged}")
        return None
    log_event(f"this training is already done: version {known.version}")
    return known.version


def _pin(lake: Lake, plan: TrainingPlan) -> TrainingInputs:
    """Pin the newest table versions, and check that the context's days have the columns."""
    dates = context_dates(plan.targets, plan.config)
    require_available(plan.config.columns, dict(lake.read(TRANSACTIONS).dtypes))
    available = feature_fingerprints(lake, dates)
    missing = [name for name in plan.config.columns if name not in available]
    if missing:
        raise UsageError(
            f"The recipe {plan.recipe} reads columns that the features of {dates} do not have: "
            f"{', '.join(missing)}.",
            expected=f"columns among {', '.join(sorted(available))}.",
            remedy=f"build the features of {dates} again, or correct the recipe.",
        )
    fingerprints = {name: available[name] for name in plan.config.columns}
    versions = lake.versions((TRANSACTIONS, LABELS, FEATURES_TABLE))
    return TrainingInputs(plan, versions, fingerprints)


def _train(lake: Lake, inputs: TrainingInputs) -> tuple[StoredModel, dict[str, Any]]:
    """Write the snapshot, train on it, calibrate; return the stored model and the summary."""
    tables = read_training_tables(lake, inputs.versions)
    folder, num_workers = _work_folder(lake, inputs), inputs.plan.num_workers
    snapshot = f"{folder}/snapshot"
    if not is_complete(lake.spark, snapshot, num_workers):
        write_snapshot(tables, inputs, snapshot)

    training = TrainingRun(snapshot, f"{folder}/run", inputs.plan.config)
    summary = train_distributed(lake.spark, training, num_workers)
    uncalibrated = StoredModel(summary["checkpoint_uri"], summary["sha256"])
    trained = calibrate(tables.features, inputs, uncalibrated, f"{folder}/ranked")

    uri = lake.path("_models", inputs.training_id)
    sha256 = save_checkpoint(uri, trained)
    write_bytes(join(uri, MODEL_CARD_FILE), model_card(trained).encode())
    return StoredModel(uri, sha256), summary


def _work_folder(lake: Lake, inputs: TrainingInputs) -> str:
    """Return the folder of snapshot and state; a resumed training gets the same folder."""
    return lake.path("_staging", f"train-{inputs.training_id}")


def _registration(
    inputs: TrainingInputs, model: StoredModel, summary: dict[str, Any]
) -> Registration:
    config = inputs.plan.config
    return Registration(
        uri=model.uri,
        sha256=model.sha256,
        description=f"Model card: {join(model.uri, MODEL_CARD_FILE)}",
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
                {name: epoch[name] for name in ("train_loss", "validation_loss") if name in epoch},
            )
            for number, epoch in enumerate(summary["history"], start=1)
        ],
    )
