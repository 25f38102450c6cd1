"""Process nights again and replace their tables, with a recorded reason.

Reads   the deliveries of the nights, and the current version of every table, which has rows that
        arrived after the nights were first processed
Writes  transactions, features, scores of all nights in one commit each; each night's report
Fails   when a job fails: one failing night fails all nights, and commits made before it remain

A correction of data is a new delivery and a backfill of its nights. The model is resolved once and
recorded, so a backfill that was killed and is started again with the same arguments uses the same
model. Scores of a model that was trained on the night or on later nights are marked `in_sample`.
Published alerts stay; a night without published alerts gets its own.

    fraud-scoring backfill --lake L --from 2018-08-01 --to 2018-08-07 --reason "re-delivery 4711"
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from typing import Literal

from feature_defs.errors import InputMissing, UsageError, join_first
from fraud_models.registry.mlflow_registry import CHAMPION
from jobs import alerts, features, ingest, monitor, publish, report, score
from jobs.deliveries.readiness import check_ready
from jobs.deliveries.source import Delivery
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.nights import JOBS, Night, lease_nights, require_ingested
from jobs.lake.runs import record_run
from jobs.lake.tables import NIGHTS
from jobs.models.model_store import open_registry
from jobs.runtime.logs import log_event
from jobs.score import staged_scores_unusable

AS_PUBLISHED = "as-published"
FirstJob = Literal["ingest", "features", "score"]


@dataclass(frozen=True)
class BackfillPlan:
    """Arguments of a backfill; the same plan resumes the same backfill."""

    dates: Dates
    reason: str
    model: str = CHAMPION
    starting_at: FirstJob = "ingest"

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise UsageError(
                "The backfill has no reason.",
                expected="a sentence that tells an auditor why these nights are processed again.",
                remedy="add --reason TEXT.",
            )
        if self.starting_at not in JOBS[:3]:
            raise UsageError(
                f"A backfill cannot start at {self.starting_at!r}.",
                expected=f"one of {', '.join(JOBS[:3])}.",
                remedy="correct --starting-at.",
            )

    def to_json(self) -> str:
        """Return the plan as the JSON text that `nights` stores."""
        return json.dumps(
            {**asdict(self), "dates": [str(self.dates.first), str(self.dates.last)]},
            sort_keys=True,
        )


def run(lake: Lake, plan: BackfillPlan, delivery: Delivery) -> list[str]:
    """Process the nights again and return the paths of their reports.

    Raises:
        InputMissing: a delivery, a night's ingest or a model is missing; nothing has changed.
        GateFailed: a gate failed.
        NightHeld: another run holds the lease of one of the nights.
    """
    reports = [lake.path(report.FOLDER, str(day), "report.html") for day in plan.dates.days]
    states = _states(lake, plan)
    if states == {"done"}:
        log_event(f"this backfill of {plan.dates} is already done; nothing changes")
        return reports
    if plan.starting_at == "ingest":
        check_ready(lake, delivery, plan.dates)
    else:
        require_ingested(lake, plan.dates)
    # Resolved before the lease, so that a missing model changes no row of `nights`.
    models = _models_by_night(lake, plan) if None in states else {}
    arguments = json.loads(plan.to_json())
    with (
        record_run(lake, "backfill", plan.dates, arguments) as record,
        lease_nights(lake, plan.dates) as night,
    ):
        if None in _states(lake, plan):
            kept_jobs = JOBS[: JOBS.index(plan.starting_at)]
            for job in kept_jobs:
                night.require_finished(job)
            models = models or _models_by_night(lake, plan)
            night.restart_for_backfill(kept_jobs, models, plan.to_json())
        record.model_version = night.model_version
        record.versions_in = dict(night.pins)
        _run_jobs(night, delivery)
    return reports


def _states(lake: Lake, plan: BackfillPlan) -> set[str | None]:
    """Return the states of the nights; None stands for a night that is not in this backfill."""
    rows = lake.read(NIGHTS).where(plan.dates.sql).select("backfill", "state").collect()
    backfill = plan.to_json()
    states = {row["state"] if row["backfill"] == backfill else None for row in rows}
    return states if len(rows) == plan.dates.num_nights else states | {None}


def _models_by_night(lake: Lake, plan: BackfillPlan) -> dict[date, str]:
    """Return the version of the model that scores each night.

    Raises:
        InputMissing: there is no such model, or no model has scored some nights.
    """
    dates = plan.dates
    if plan.model != AS_PUBLISHED:
        version = str(open_registry(lake).resolve(plan.model).version)
        return dict.fromkeys(dates.days, version)
    scored = lake.read(NIGHTS).where(dates.sql).where("model_version IS NOT NULL").collect()
    models = {row["business_date"]: row["model_version"] for row in scored}
    missing = [str(day) for day in dates.days if day not in models]
    if missing:
        raise InputMissing(
            f"No model has scored {len(missing)} of the nights {dates}: {join_first(missing)}.",
            expected=f"published scores for every night of a backfill with --model {AS_PUBLISHED}.",
            remedy="omit --model to score with the champion, or name a version.",
        )
    return models


def _run_jobs(night: Night, delivery: Delivery) -> None:
    """Run the unfinished jobs: the tables for all nights at once, the rest night by night."""
    if "ingest" not in night.finished:
        ingest.run(night, delivery)
    if "features" not in night.finished:
        features.run(night)
    if "score" not in night.finished or staged_scores_unusable(night):
        score.run(night)
    if "publish" not in night.finished:
        publish.run(night)
    for one in night.each():
        for name, job in (("alerts", alerts.run), ("monitor", monitor.run), ("report", report.run)):
            if name not in one.finished:
                job(one)
