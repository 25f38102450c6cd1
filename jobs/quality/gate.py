"""Gates: Great Expectations decides whether a night may go on. The one door to that library.

A gate passes only when every `fail` check was evaluated and holds; a check that crashed is a
failed one, and says so. Errors are not raised by the library, so they are looked for here.
Validation runs without the library's caching and fetches no failing rows: bad rows are in the
quarantine, and a gate needs only counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import great_expectations as gx
from great_expectations.checkpoint import Checkpoint
from pyspark.sql import DataFrame

from feature_defs.problems import GateFailed
from jobs.lake.runs import Run

Severity = Literal["fail", "warn"]
Status = Literal["passed", "failed", "crashed", "not applicable"]


@dataclass(frozen=True)
class Expectation:
    """An expectation with a name and a sentence; `severity` says whether it can stop the night."""

    name: str
    sentence: str
    rule: Any
    severity: Severity = "fail"


@dataclass(frozen=True)
class Check:
    """What became of one expectation."""

    name: str
    sentence: str
    severity: Severity
    status: Status
    observed: str

    @property
    def stops(self) -> bool:
        """Whether this check stops the night."""
        return self.severity == "fail" and self.status in ("failed", "crashed")


@dataclass(frozen=True)
class GateResult:
    """A gate's verdict and how it came about."""

    gate: str
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """True when there were checks and none of them stops the night."""
        return bool(self.checks) and not any(check.stops for check in self.checks)

    def as_record(self) -> dict[str, Any]:
        """What `runs` keeps of the gate."""
        return {
            "gate": self.gate,
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
        }

    def __add__(self, other: GateResult) -> GateResult:
        """The same gate over several tables."""
        assert self.gate == other.gate
        return GateResult(self.gate, self.checks + other.checks)


def validate(gate: str, expectations: Sequence[Expectation], frame: DataFrame) -> GateResult:
    """Run expectations over a frame."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_or_update_spark(name="lake", persist=False)
    batch = source.add_dataframe_asset(gate).add_batch_definition_whole_dataframe("whole")
    suite = context.suites.add(
        gx.ExpectationSuite(name=gate, expectations=[item.rule for item in expectations])
    )
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=gate, data=batch, suite=suite)
    )
    # Verdicts come in a few bundled passes; counts cost one more pass for each expectation, and
    # are taken only when one does not hold.
    for result_format in ("BOOLEAN_ONLY", "BASIC"):
        checkpoint = context.checkpoints.add(
            Checkpoint(
                name=f"{gate} {result_format}",
                validation_definitions=[definition],
                result_format=result_format,
            )
        )
        outcome = checkpoint.run(batch_parameters={"dataframe": frame})
        if outcome.success:
            break
    (validation,) = outcome.run_results.values()
    by_rule = {item.rule.id: item for item in expectations}
    checks = tuple(
        _check(by_rule[result.expectation_config.id], result) for result in validation.results
    )
    missing = [item for item in expectations if item.name not in {c.name for c in checks}]
    checks += tuple(
        Check(item.name, item.sentence, item.severity, "crashed", "no result came back")
        for item in missing
    )
    return GateResult(gate, checks)


def _check(expectation: Expectation, result: Any) -> Check:
    crash = _exception(result.exception_info or {})
    status: Status = "crashed" if crash else "passed" if result.success else "failed"
    return Check(
        expectation.name,
        expectation.sentence,
        expectation.severity,
        status,
        crash or _observed(result.result or {}),
    )


def _exception(info: dict[str, Any]) -> str:
    """The message of an error inside an expectation; flat or keyed by metric, by version."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if isinstance(entry, dict) and entry.get("raised_exception"):
            return str(entry.get("exception_message", "it gave no message"))[:500]
    return ""


def _observed(result: dict[str, Any]) -> str:
    if "observed_value" in result:
        return str(result["observed_value"])
    if "unexpected_count" in result:
        return (
            f"{result['unexpected_count']} of {result.get('element_count', '?')} rows do not hold"
        )
    return ""


def require(result: GateResult, run: Run) -> None:
    """Record a gate's result and stop the night when it did not pass.

    Raises:
        GateFailed: it did not; every check that stops the night is named with what it saw.
    """
    run.gates.append(result.as_record())
    if result.passed:
        return
    stops = [check for check in result.checks if check.stops]
    seen = "; ".join(f"{c.sentence} ({c.name}: {c.status}, {c.observed})" for c in stops)
    raise GateFailed(
        f"{result.gate} stopped {run.dates or run.job}: {seen or 'it had nothing to check'}.",
        expected="every check of the gate to pass.",
        remedy="read the report of the night, mend the cause and run the job again.",
    )
