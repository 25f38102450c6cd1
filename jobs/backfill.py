"""Run nights again for their tables, for a reason that is kept.

Reads   the deliveries of the nights, and every table as it is now: what came late is seen
Writes  transactions, features, scores of all nights in one commit each; each night's report
Fails   as the jobs do; one failing night fails all, and what was published stays

A correction comes as a re-delivery and a backfill of its nights. The model is resolved once and
kept, also when the backfill is killed and started again with the same arguments. Scores by a
model that was trained on a night or later are marked `in_sample`. Alerts that people were shown
stay; a night that had none gets its own.

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
    """What is asked for; the same plan again goes on with the same backfill."""

    dates: Dates
    reason: str
    model: str = CHAMPION
    starting_at: FirstJob = "ingest"

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise UsageError(
                "The backfill has no reason.",
                expected="a sentence that tells an auditor why nights were run again.",
                remedy="give --reason TEXT.",
            )
        if self.starting_at not in JOBS[:3]:
            raise UsageError(
                f"A backfill cannot start at {self.starting_at!r}.",
                expected=f"one of {', '.join(JOBS[:3])}.",
                remedy="correct --starting-at.",
            )

    def to_json(self) -> str:
        """What `nights` keeps of it."""
        return json.dumps(
            {**asdict(self), "dates": [str(self.dates.first), str(self.dates.last)]},
            sort_keys=True,
        )


def run(lake: Lake, plan: BackfillPlan, delivery: Delivery) -> list[str]:
    """Run the nights again; returns the places of their reports.

    Raises:
        InputMissing: a delivery, a night's ingest or a model is not there; nothing was begun.
        GateFailed: a gate said no.
        NightHeld: another run works on one of the nights.
    """
    reports = [lake.path(report.FOLDER, str(day), "report.html") for day in plan.dates.days]
    states = _states(lake, plan)
    if states == {"done"}:
        log_event(f"this backfill of {plan.dates} is done already; nothing changes")
        return reports
    if plan.starting_at == "ingest":
        check_ready(lake, delivery, plan.dates)
    else:
        require_ingested(lake, plan.dates)
    # Before any night is taken: what is not there must leave no trace in `nights`.
    models = _models(lake, plan) if None in states else {}
    arguments = json.loads(plan.to_json())
    with (
        record_run(lake, "backfill", plan.dates, arguments) as own,
        lease_nights(lake, plan.dates) as night,
    ):
        if None in _states(lake, plan):
            kept = JOBS[: JOBS.index(plan.starting_at)]
            for job in kept:
                night.require_finished(job)
            night.restart_for_backfill(kept, models or _models(lake, plan), plan.to_json())
        own.model_version = night.model_version
        own.versions_in = dict(night.pins)
        _run_jobs(night, delivery)
    return reports


def _states(lake: Lake, plan: BackfillPlan) -> set[str | None]:
    """State of each night that is in this backfill; of one that is not, nothing."""
    rows = lake.read(NIGHTS).where(plan.dates.sql).select("backfill", "state").collect()
    why = plan.to_json()
    states: set[str | None] = {row["state"] if row["backfill"] == why else None for row in rows}
    return states if len(rows) == plan.dates.num_nights else states | {None}


def _models(lake: Lake, plan: BackfillPlan) -> dict[date, str]:
    """Version of the model that scores each night.

    Raises:
        InputMissing: there is no such model, or a night was not published; all are named.
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
            expected=f"nights that were published, when the model is to be {AS_PUBLISHED}.",
            remedy="leave --model out for the champion, or name a version.",
        )
    return models


def _run_jobs(night: Night, delivery: Delivery) -> None:
    """All jobs that are not done yet: the tables in one commit each, the rest night by night."""
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
