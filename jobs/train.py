"""Train a challenger from what was known before a day, 00:00 UTC.

Reads   features, transactions and labels at one version each; no label that was not mature
Writes  _models/<training id> (checkpoint, model card), the registry (a version, alias `challenger`)
Fails   when days of the context have no features, a rank fails, or rows get lost on the way

The contexts become a Parquet snapshot with a manifest; ranks read it through Petastorm; known
frauds are context but never targets. The training id follows from data, config and the number
of workers: a killed training goes on from its last epoch, a finished one is not repeated.

    fraud-scoring train --lake L --as-of 2018-07-25 --recipe lstm_autoencoder --num-workers 2
"""

from __future__ import annotations

from typing import Any

from feature_defs.errors import InputMissing, UsageError
from fraud_models.registry.checkpoint import save_checkpoint
from fraud_models.registry.mlflow_registry import CHALLENGER, EpochMetrics, Registration, Registry
from fraud_models.registry.model_card import MODEL_CARD_FILE, model_card
from fraud_models.storage import join, write_bytes
from fraud_models.training.distributed import train_distributed
from fraud_models.training.loop import TrainingRun
from jobs.lake.delta_io import Lake
from jobs.lake.run_history import feature_fingerprints
from jobs.lake.runs import Run, record_run
from jobs.lake.tables import FEATURES_TABLE, LABELS, TRANSACTIONS
from jobs.models.calibration import calibrated
from jobs.models.contexts import context_dates
from jobs.models.executor_functions import StoredModel
from jobs.models.model_store import open_registry, read_checkpoint
from jobs.models.training_plan import TrainingInputs, TrainingPlan
from jobs.models.training_snapshot import is_complete, write_snapshot
from jobs.runtime.logs import log_event


def run(lake: Lake, plan: TrainingPlan) -> int:
    """Train, calibrate and register a model; returns its version, now the challenger.

    Raises:
        InputMissing: days without features, or a damaged snapshot.
        FraudScoringError: a rank failed; the message holds that rank's own traceback.
    """
    version = register(lake, plan)
    open_registry(lake).set_alias(CHALLENGER, version)
    return version


def register(lake: Lake, plan: TrainingPlan) -> int:
    """The same, without making it the challenger."""
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
        version = _finished(registry, inputs) or _train(lake, inputs, registry, run)
        run.model_version = str(version)
    return version


def _finished(registry: Registry, inputs: TrainingInputs) -> int | None:
    """The version that this training has left; nothing when it did not, or left it damaged."""
    known = registry.find_by_training_id(inputs.training_id)
    if known is None:
        return None
    try:
        read_checkpoint(known)
    except InputMissing as damaged:
        log_event(f"version {known.version} is trained again: {damaged}")
        return None
    log_event(f"this training is done already: version {known.version}")
    return known.version


def _pin(lake: Lake, plan: TrainingPlan) -> TrainingInputs:
    reach = context_dates(plan.targets, plan.config)
    available = feature_fingerprints(lake, reach)
    missing = [name for name in plan.config.columns if name not in available]
    if missing:
        raise UsageError(
            f"The recipe {plan.recipe} reads columns that the features of {reach} do not have: "
            f"{', '.join(missing)}.",
            expected=f"columns among {', '.join(sorted(available))}.",
            remedy=f"build the features of {reach} again, or correct the recipe.",
        )
    fingerprints = {name: available[name] for name in plan.config.columns}
    versions = lake.versions((TRANSACTIONS, LABELS, FEATURES_TABLE))
    return TrainingInputs(plan, versions, fingerprints)


def _train(lake: Lake, inputs: TrainingInputs, registry: Registry, run: Run) -> int:
    workplace = lake.path("_staging", f"train-{inputs.training_id}")
    snapshot, run_dir = f"{workplace}/snapshot", f"{workplace}/run"
    if not is_complete(lake, snapshot, inputs.plan.num_workers):
        write_snapshot(lake, inputs, snapshot)
    training = TrainingRun(snapshot, run_dir, inputs.plan.config)
    summary = train_distributed(lake.spark, training, inputs.plan.num_workers)
    trained = StoredModel(summary["checkpoint_uri"], summary["sha256"])
    uri = lake.path("_models", inputs.training_id)
    checkpoint = calibrated(lake, inputs, trained, f"{workplace}/ranked")
    sha256 = save_checkpoint(uri, checkpoint)
    write_bytes(join(uri, MODEL_CARD_FILE), model_card(checkpoint).encode())
    run.rows["train_events"] = summary["num_train_events"]
    run.rows["validation_events"] = summary["num_validation_events"]
    run.figures["training"] = summary
    version = registry.register(_registration(inputs, StoredModel(uri, sha256), summary))
    lake.files.rm(workplace, recursive=True)
    return version


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
