"""Derive the status of a night from its records alone, without Spark, so every case is testable."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from jobs.lake.nights import JOBS
from jobs.lake.runs import Run

# A night begins with any of these jobs; a report alone does not begin one.
JOBS_BEFORE_REPORT = tuple(job for job in JOBS if job != "report")
Kind = Literal["published", "stopped", "no model", "unfinished"]


@dataclass(frozen=True)
class NightRecord:
    """The records of one night in `nights` and `runs`; `attempts` are sorted oldest first."""

    day: date
    pins: Mapping[str, int]
    model_version: str | None
    finished: Mapping[str, Run]
    attempts: tuple[Run, ...] = ()
    # The backfill that reran the night, as JSON from `nights`.
    backfill: str | None = None

    @property
    def failure(self) -> Run | None:
        """Return the newest failed attempt that no later run of the same job has repaired."""
        last: dict[str, Run] = {}
        for run in self.attempts:
            if run.job in JOBS:
                last[run.job] = run
        failed = [
            run for run in last.values() if run.status == "failed" and not self._is_repaired(run)
        ]
        return max(failed, key=lambda run: run.started_at, default=None)

    @property
    def backfill_text(self) -> str | None:
        """Return which backfill reran the night, and its reason; None if there was none."""
        if self.backfill is None:
            return None
        plan = json.loads(self.backfill)
        nights = " to ".join(dict.fromkeys(plan["dates"]))
        return f"Rerun by a backfill of {nights}. Reason: {plan['reason']}"

    @property
    def begun(self) -> bool:
        """Return whether a job before the report has finished, or has at least started."""
        return bool(self.finished) or any(run.job in JOBS_BEFORE_REPORT for run in self.attempts)

    @property
    def only_report_missing(self) -> bool:
        """Return whether all jobs before the report have finished: then a report ends the night."""
        return set(JOBS_BEFORE_REPORT) <= set(self.finished)

    @property
    def ingest(self) -> Run | None:
        """Return the run of the night's `ingest`, finished or failed."""
        failure = self.failure
        failed = failure if failure is not None and failure.job == "ingest" else None
        return self.finished.get("ingest", failed)

    def _is_repaired(self, failed: Run) -> bool:
        done = self.finished.get(failed.job)
        return done is not None and done.started_at > failed.started_at


@dataclass(frozen=True)
class NightStatus:
    """The status of a night, as the banner of the page shows it."""

    kind: Kind
    title: str
    text: str


@dataclass(frozen=True)
class GateView:
    """One gate as the page shows it; `status` is passed, failed or overridden.

    `remark` describes an override request and its outcome; it is empty without a request.
    """

    gate: str
    job: str
    status: str
    remark: str
    checks: tuple[Mapping[str, Any], ...]

    @property
    def undecided(self) -> int:
        """Return the number of checks that were not applicable; these do not count as passed."""
        return sum(check.get("status") == "not applicable" for check in self.checks)

    @property
    def warnings(self) -> int:
        """Return the number of checks that failed or crashed and can only warn."""
        return sum(
            check.get("severity") == "warn" and check.get("status") in ("failed", "crashed")
            for check in self.checks
        )


def night_status(record: NightRecord) -> NightStatus:
    """Return the status of the night; a publication decides first, then the newest failure."""
    failure = record.failure
    if "publish" in record.finished:
        return _published(record, failure)
    if "alerts" in record.finished:
        return _being_rerun(failure)
    if failure is None:
        return _unfinished(record)
    if _failed_gates(failure):
        gates = ", ".join(gate["gate"] for gate in _failed_gates(failure))
        return NightStatus(
            "stopped",
            f"Nothing was published: stopped by {gates}",
            f"The job `{failure.job}` did not pass its gate. This night has no scores and no "
            "alerts. Scores and alerts of earlier nights are unchanged.",
        )
    if failure.job == "score" and (failure.error or "").startswith("InputMissing"):
        return NightStatus(
            "no model",
            "Nothing was scored: no model could be used",
            "Transactions and features of the night are in the lake. They can be scored once there "
            "is a model.",
        )
    return NightStatus(
        "stopped",
        f"Nothing was published: `{failure.job}` ended with an error",
        "This night has no scores and no alerts. Scores and alerts of earlier nights are "
        "unchanged.",
    )


def _published(record: NightRecord, failure: Run | None) -> NightStatus:
    overridden = [gate for gate in gates(record) if gate.status == "overridden"]
    title = "Published with a gate override" if overridden else "Published"
    text = "The scores of the night passed all gates and were published."
    if overridden:
        remarks = " ".join(f"{gate.gate}: {gate.remark}" for gate in overridden)
        text = f"The scores of the night were published. {remarks}"
    if failure is not None:
        text = f"The scores of the night were published. Afterwards `{failure.job}` failed."
    return NightStatus("published", title, text)


def _being_rerun(failure: Run | None) -> NightStatus:
    text = "The earlier publication of this night and its alerts are unchanged."
    if failure is not None:
        title = f"Not published again: `{failure.job}` did not pass"
        return NightStatus("stopped", title, text)
    return NightStatus("unfinished", "Not published again yet: the night is being rerun", text)


def _unfinished(record: NightRecord) -> NightStatus:
    if "features" in record.finished and "score" not in record.finished:
        return NightStatus(
            "no model",
            "Nothing was scored yet: no model was in service",
            "Transactions and features of the night are in the lake. They can be scored once there "
            "is a model.",
        )
    done = ", ".join(f"`{job}`" for job in JOBS if job in record.finished) or "no job"
    return NightStatus(
        "unfinished",
        "Nothing was published yet: the night is not finished",
        f"Finished so far: {done}. Run `fraud-scoring nightly --date {record.day}` to continue.",
    )


def _failed_gates(run: Run) -> list[Mapping[str, Any]]:
    return [gate for gate in run.gates if not gate.get("passed") and not _is_overridden(gate)]


def _is_overridden(gate: Mapping[str, Any]) -> bool:
    """Return whether an operator overrode the failed gate, so that the job continued."""
    return bool(gate.get("accepted", {}).get("outcome") == "overruled")


def _remark(gate: Mapping[str, Any]) -> str:
    """Return the override request and its outcome as text; empty without a request."""
    accepted = gate.get("accepted")
    if not accepted:
        return ""
    actor, reason = accepted["actor"], accepted["reason"]
    return {
        "overruled": f"Overridden by {actor}: {reason}",
        "not needed": f"{actor} requested an override ({reason}); it was not needed.",
        "refused": f"{actor} requested an override ({reason}); it was refused, because "
        "conservation and schema checks cannot be overridden.",
    }[accepted["outcome"]]


def gates(record: NightRecord) -> list[GateView]:
    """Return the gates of the night in the order of its jobs.

    A job that has not finished contributes the gates of its failed attempt.
    """
    failure = record.failure
    runs: dict[str, Run] = dict(record.finished)
    if failure is not None and failure.job not in runs:
        runs[failure.job] = failure
    return [
        GateView(
            gate=str(gate.get("gate", "gate")),
            job=job,
            status=_status(gate),
            remark=_remark(gate),
            checks=tuple(gate.get("checks", ())),
        )
        for job in JOBS
        if job in runs
        for gate in runs[job].gates
    ]


def _status(gate: Mapping[str, Any]) -> str:
    if _is_overridden(gate):
        return "overridden"
    return "passed" if gate.get("passed") else "failed"


def earlier_failures(record: NightRecord) -> Sequence[Run]:
    """Return the failed attempts, newest first, without the one that the banner describes."""
    in_banner = record.failure.run_id if record.failure else None
    failed = [run for run in record.attempts if run.status == "failed" and run.run_id != in_banner]
    return failed[::-1]
