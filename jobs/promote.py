"""Gate 3: put a model into service.

Reads   metrics of the model's newest evaluation, features' fingerprints
Writes  the alias `champion` in the registry
Fails   when the model is not at least as good as the champion (the first: as the isolation
        forest) on the same rows, out of sample, or the coming night lacks its columns

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


def run(lake: Lake, model_name: str, acceptance: GateOverride | None = None) -> int:
    """Promote a model when gate 3 lets it, or is overruled; returns its version.

    Raises:
        InputMissing: no such model, it was not evaluated, or columns are missing.
        GateFailed: it is not as good as what is in service.
    """
    with record_run(lake, "promote", None, {"model": model_name}) as run:
        registry = open_registry(lake)
        model = registry.resolve(model_name)
        run.model_version = str(model.version)
        aliases = registry.list_aliases()
        if aliases.get(CHAMPION) == model.version:
            return model.version
        evaluated, judged_from = _newest_evaluation(lake, model)
        run.figures = evaluated
        incumbent = _incumbent(evaluated, aliases.get(CHAMPION))
        checkpoint = read_checkpoint(model)
        facts = suite.facts(evaluated["figures"], f"version_{model.version}", incumbent)
        facts |= suite.sample_facts(date.fromisoformat(checkpoint.as_of), judged_from)
        require(suite.judge(facts), run, acceptance)
        _check_columns(lake, checkpoint)
        registry.set_alias(CHAMPION, model.version)
    return model.version


def _newest_evaluation(lake: Lake, model: ModelVersion) -> tuple[dict[str, Any], date]:
    """Figures of the model's newest finished evaluation, and its first night."""
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
            expected="an evaluation on nights that the model has not seen.",
            remedy=f"run `fraud-scoring evaluate --from D --to D --model {model.version}`.",
        )
    figures: dict[str, Any] = json.loads(rows[0]["figures"])
    return figures, rows[0]["first_date"]


def _incumbent(evaluated: dict[str, Any], champion: int | None) -> str:
    """Whom the model was judged against: it must be the champion of this moment."""
    wanted = f"version_{champion}" if champion is not None else str(evaluated["incumbent"])
    if wanted not in evaluated["figures"]:
        raise InputMissing(
            f"The newest evaluation compared with {evaluated['incumbent']}, not with the "
            f"champion {wanted}.",
            expected="figures of both on the same rows.",
            remedy="run `fraud-scoring evaluate` again.",
        )
    return wanted


def _check_columns(lake: Lake, checkpoint: TrainedModel) -> None:
    """Check that the coming night's context has the columns that the model reads."""
    newest = lake.read(NIGHTS).agg(F.max("business_date")).collect()[0][0]
    reach = context_dates(Dates(newest, newest), checkpoint.config)
    checkpoint.check_columns(feature_fingerprints(lake, reach))
