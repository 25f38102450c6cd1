"""What became of a night, decided from its records alone: pure, so every case can be tested."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from jobs.lake.nights import JOBS
from jobs.lake.runs import Run

# A page alone begins nothing.
BEGINNINGS = tuple(job for job in JOBS if job != "report")
Kind = Literal["published", "stopped", "no model", "unfinished"]


@dataclass(frozen=True)
class NightRecord:
    """All that `nights` and `runs` say about one night; `attempts` oldest first."""

    day: date
    pins: Mapping[str, int]
    model_version: str | None
    finished: Mapping[str, Run]
    attempts: tuple[Run, ...] = ()
    # The backfill that ran the night again, as `nights` keeps it.
    backfill: str | None = None

    @property
    def failure(self) -> Run | None:
        """The newest attempt that failed and was not made good since."""
        last: dict[str, Run] = {}
        for run in self.attempts:
            if run.job in JOBS:
                last[run.job] = run
        failed = [
            run for run in last.values() if run.status == "failed" and not self._made_good(run)
        ]
        return max(failed, key=lambda run: run.started_at, default=None)

    @property
    def run_again(self) -> str | None:
        """Which backfill has run the night again, and why; unset when none has."""
        if self.backfill is None:
            return None
        plan = json.loads(self.backfill)
        nights = " to ".join(dict.fromkeys(plan["dates"]))
        return f"Run again by a backfill of {nights}. Reason given: {plan['reason']}"

    @property
    def begun(self) -> bool:
        """Whether any job of the night has finished or at least tried."""
        return bool(self.finished) or any(run.job in BEGINNINGS for run in self.attempts)

    @property
    def waits_for_its_page(self) -> bool:
        """Whether a page ends the night: nothing before it is left to do, or to do again."""
        return set(BEGINNINGS) <= set(self.finished)

    @property
    def ingest(self) -> Run | None:
        """The night's `ingest`, finished or stopped."""
        failure = self.failure
        stopped = failure if failure is not None and failure.job == "ingest" else None
        return self.finished.get("ingest", stopped)

    def _made_good(self, failed: Run) -> bool:
        done = self.finished.get(failed.job)
        return done is not None and done.started_at > failed.started_at


@dataclass(frozen=True)
class Verdict:
    """The banner of the page."""

    kind: Kind
    title: str
    text: str


@dataclass(frozen=True)
class GateView:
    """One gate as the page shows it; `status` is passed, failed or overruled.

    `remark` says what a person asked for, and what came of it; empty when nobody did.
    """

    gate: str
    job: str
    status: str
    remark: str
    checks: tuple[Mapping[str, Any], ...]

    @property
    def undecided(self) -> int:
        """Checks that were not applicable, which is not a pass."""
        return sum(check.get("status") == "not applicable" for check in self.checks)

    @property
    def warnings(self) -> int:
        """Checks that failed or crashed and may only warn."""
        return sum(
            check.get("severity") == "warn" and check.get("status") in ("failed", "crashed")
            for check in self.checks
        )


def verdict(record: NightRecord) -> Verdict:
    """What became of the night, most important news first."""
    failure = record.failure
    if "publish" in record.finished:
        return _published(record, failure)
    if "alerts" in record.finished:
        return _run_again(failure)
    if failure is None:
        return _unfinished(record)
    if _failed_gates(failure):
        gates = ", ".join(gate["gate"] for gate in _failed_gates(failure))
        return Verdict(
            "stopped",
            f"Nothing was published: stopped by {gates}",
            f"The job `{failure.job}` did not pass. Scores and alerts of earlier nights stand as "
            "they are; there are none for this night.",
        )
    if failure.job == "score" and (failure.error or "").startswith("InputMissing"):
        return Verdict(
            "no model",
            "Nothing was scored: no model could be used",
            "Transactions and features of the night are in the lake and wait for a model.",
        )
    return Verdict(
        "stopped",
        f"Nothing was published: `{failure.job}` ended with an error",
        "Scores and alerts of earlier nights stand as they are; there are none for this night.",
    )


def _published(record: NightRecord, failure: Run | None) -> Verdict:
    overruled = [gate for gate in gates(record) if gate.status == "overruled"]
    title = "Published, though a gate said no" if overruled else "Published"
    text = "The scores of the night passed every gate that can stop it and were published."
    if overruled:
        remarks = " ".join(f"{gate.gate}: {gate.remark}" for gate in overruled)
        text = f"The scores of the night were published. {remarks}"
    if failure is not None:
        text = f"The scores of the night were published; since then `{failure.job}` failed."
    return Verdict("published", title, text)


def _run_again(failure: Run | None) -> Verdict:
    shown = "What was published before stands, and so do the alerts that were shown."
    if failure is not None:
        title = f"Not published again: `{failure.job}` did not pass"
        return Verdict("stopped", title, shown)
    return Verdict("unfinished", "Not published again yet: the night is being run again", shown)


def _unfinished(record: NightRecord) -> Verdict:
    if "features" in record.finished and "score" not in record.finished:
        return Verdict(
            "no model",
            "Nothing was scored yet: no model was in service",
            "Transactions and features of the night are in the lake and wait for a model.",
        )
    done = ", ".join(f"`{job}`" for job in JOBS if job in record.finished) or "no job"
    return Verdict(
        "unfinished",
        "Nothing was published yet: the night is not finished",
        f"Finished so far: {done}. Run `fraud-scoring nightly --date {record.day}` to go on.",
    )


def _failed_gates(run: Run) -> list[Mapping[str, Any]]:
    return [gate for gate in run.gates if not gate.get("passed") and not _overruled(gate)]


def _overruled(gate: Mapping[str, Any]) -> bool:
    """Whether the job went on although the gate said no."""
    return bool(gate.get("accepted", {}).get("outcome") == "overruled")


def _remark(gate: Mapping[str, Any]) -> str:
    """What a person asked of the gate, and what came of it; empty when nobody did."""
    accepted = gate.get("accepted")
    if not accepted:
        return ""
    who, why = accepted["actor"], accepted["reason"]
    return {
        "overruled": f"Overruled by {who}: {why}",
        "not needed": f"{who} asked to overrule it ({why}), which was not needed.",
        "refused": f"{who} asked to overrule it ({why}): refused, for nobody overrules "
        "conservation or schema.",
    }[accepted["outcome"]]


def gates(record: NightRecord) -> list[GateView]:
    """The gates of the night in the order of its jobs, the failed attempt's in place of none."""
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
    if _overruled(gate):
        return "overruled"
    return "passed" if gate.get("passed") else "failed"


def earlier_failures(record: NightRecord) -> Sequence[Run]:
    """Attempts that failed, newest first; all but the one that the banner is about."""
    about = record.failure.run_id if record.failure else None
    failed = [run for run in record.attempts if run.status == "failed" and run.run_id != about]
    return failed[::-1]
