"""Make a model the champion when it passes gate 3.

Reads   metrics of the model's newest evaluation, fingerprints of the features
Writes  the alias `champion` in the registry
Fails   when the model is worse than the champion (without a champion: than the isolation forest)
        on the same rows, when it was evaluated in sample, or when the newest night's context
        lacks columns that it reads

    fraud-scoring promote --lake L
"""

from __future__ import annotations

import json
from datetime import date
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F

from feature_defs.errors import InputMissing
from fraud_models.registry.mlflow_registry import CHAMPION, ModelVersion
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.run_history import feature_fingerprints
from jobs.lake.runs import record_run
from jobs.lake.tables import NIGHTS, RUNS
from jobs.models.contexts import context_dates
from jobs.models.model_store import open_registry, read_checkpoint
from jobs.quality.gate import require
from jobs.quality.overrides import GateOverride
from jobs.quality.suites import model as suite

if TYPE_CHECKING:
    from fraud_models.scoring.trained_model import TrainedModel


def run(lake: Lake, model_name: str, override: GateOverride | None = None) -> int:
    """Promote a model that passes gate 3, or whose gate is overridden; return its version.

    Raises:
        InputMissing: there is no such model, it was not evaluated, or columns are missing.
        GateFailed: gate 3 failed, for example because the model is worse than the champion.
    """
    with record_run(lake, "promote", None, {"model": model_name}) as run:
        registry = open_registry(lake)
        model = registry.resolve(model_name)
        run.model_version = str(model.version)
        aliases = registry.list_aliases()
        if aliases.get(CHAMPION) == model.version:
            return model.version
        evaluated, first_night = _newest_evaluation(lake, model)
        run.figures = evaluated
        incumbent = _incumbent(evaluated, aliases.get(CHAMPION))
        checkpoint = read_checkpoint(model)
        facts = suite.facts(evaluated["figures"], f"version_{model.version}", incumbent)
        facts |= suite.sample_facts(date.fromisoformat(checkpoint.as_of), first_night)
        require(suite.run_checks(facts), run, override)
        _check_columns(lake, checkpoint)
        registry.set_alias(CHAMPION, model.version)
    return model.version


def _newest_evaluation(lake: Lake, model: ModelVersion) -> tuple[dict[str, Any], date]:
    """Return what the model's newest finished evaluation recorded, and its first night."""
    rows = (
        lake.read(RUNS)
        .where("job = 'evaluate' AND status = 'done'")
        .where(F.col("model_version") == str(model.version))
        .orderBy(F.desc("finished_at"))
        .select("figures", "first_date")
        .limit(1)
        .collect()
    )
    if not rows:
        raise InputMissing(
            f"Model version {model.version} has not been evaluated.",
            expected="an evaluation on nights that the model was not trained on.",
            remedy=f"run `fraud-scoring evaluate --from D --to D --model {model.version}`.",
        )
    figures: dict[str, Any] = json.loads(rows[0]["figures"])
    return figures, rows[0]["first_date"]


def _incumbent(evaluated: dict[str, Any], champion: int | None) -> str:
    """Return the candidate that gate 3 compares with: the champion, or the isolation forest."""
    incumbent = f"version_{champion}" if champion is not None else str(evaluated["incumbent"])
    if incumbent not in evaluated["figures"]:
        raise InputMissing(
            f"The newest evaluation compares the model with {evaluated['incumbent']}, not with the "
            f"champion {incumbent}.",
            expected="metrics of the model and the champion on the same rows.",
            remedy="run `fraud-scoring evaluate` again.",
        )
    return incumbent


def _check_columns(lake: Lake, checkpoint: TrainedModel) -> None:
    """Check that the newest night's context has the columns that the model reads."""
    newest = lake.read(NIGHTS).agg(F.max("business_date")).collect()[0][0]
    context = context_dates(Dates(newest, newest), checkpoint.config)
    checkpoint.check_columns(feature_fingerprints(lake, context))
