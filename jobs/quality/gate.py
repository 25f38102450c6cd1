"""Validation gates: Great Expectations decides whether a night may continue.

This is the only package that imports that library. A gate checks facts, not rows. Facts are counts
and metrics that Spark has computed (`jobs/quality/row_counts.py`): one row per night, in a small
table. Expectations say which facts are valid. So a check needs no pass over the data, and a failed
check names its nights. Run directly on a million rows, the library started a dozen Spark jobs for
what two passes compute.

A gate passes only if every check of severity `fail` was evaluated and passed. A check that crashed
counts as failed. So does a check whose fact is missing, unless its expectation says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import great_expectations as gx
import pandas as pd
from great_expectations.checkpoint import Checkpoint

from feature_defs.errors import MAX_NAMED, GateFailed
from jobs.lake.errors import is_infrastructure_error
from jobs.lake.runs import Run
from jobs.lake.spark_errors import SPARK_READ_ERRORS, first_line
from jobs.quality.overrides import GATES, NEVER_OVERRIDDEN, GateOverride, Outcome, short_name

MAX_OBSERVED_CHARACTERS = 2000
MAX_CRASH_CHARACTERS = 500

Severity = Literal["fail", "warn"]
Status = Literal["passed", "failed", "crashed", "not applicable"]
Kind = Literal["conservation", "schema", "nulls", "range", "volume", "drift", "figures", "model"]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Expectation:
    """A condition on every row of facts."""

    name: str
    sentence: str
    """The condition as a sentence for readers."""
    rule: Any
    """A Great Expectations expectation on the columns of the facts."""
    observed_template: str
    """Text of the observed values (`str.format`), filled in from a row of facts."""
    severity: Severity = "fail"
    """Whether a failure stops the night or only warns."""
    kind: Kind = "range"
    if_missing: Literal["fail", "pass", "not applicable"] = "fail"
    """Outcome for a row whose fact is missing. The extreme of no rows passes. A comparison with too
    few nights is not applicable."""
    missing_reason: str = ""
    """Why the check is not applicable when the fact is missing in every row."""


@dataclass(frozen=True)
class Check:
    """The outcome of one expectation."""

    name: str
    sentence: str
    severity: Severity
    status: Status
    observed: str
    kind: Kind = "range"

    @property
    def is_blocking(self) -> bool:
        """Return whether this check stops the night."""
        return self.severity == "fail" and self.status in ("failed", "crashed")


@dataclass(frozen=True)
class GateResult:
    """The outcome of a gate: all its checks."""

    gate: str
    checks: tuple[Check, ...]

    @property
    def blocking_checks(self) -> list[Check]:
        """Return the checks that stop the night."""
        return [check for check in self.checks if check.is_blocking]

    @property
    def passed(self) -> bool:
        """Return whether the gate has checks and none of them stops the night."""
        return bool(self.checks) and not self.blocking_checks

    def as_record(self) -> dict[str, Any]:
        """Return what `runs` stores of the gate."""
        return {
            "gate": self.gate,
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
        }

    def __add__(self, other: GateResult) -> GateResult:
        """Join the checks of the same gate on two sets of facts."""
        assert self.gate == other.gate
        return GateResult(self.gate, self.checks + other.checks)


def validate(
    gate: str, expectations: Sequence[Expectation], facts: Sequence[Row], name_column: str = ""
) -> GateResult:
    """Check expectations on rows of facts; `name_column` names a row in texts (its date)."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    source = context.data_sources.add_or_update_pandas(name="facts")
    batch = source.add_dataframe_asset(gate).add_batch_definition_whole_dataframe("whole")
    suite = context.suites.add(
        gx.ExpectationSuite(name=gate, expectations=[item.rule for item in expectations])
    )
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=gate, data=batch, suite=suite)
    )
    # There are few rows of facts, so the library can return every row that fails.
    checkpoint = context.checkpoints.add(
        Checkpoint(name=gate, validation_definitions=[definition], result_format="COMPLETE")
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": pd.DataFrame(list(facts))})
    (validation,) = outcome.run_results.values()
    results = {result.expectation_config.id: result for result in validation.results}
    return GateResult(
        gate,
        tuple(_check(item, results.get(item.rule.id), facts, name_column) for item in expectations),
    )


def _check(expectation: Expectation, result: Any, facts: Sequence[Row], name_column: str) -> Check:
    def check(status: Status, observed: str) -> Check:
        item = expectation
        text = observed[:MAX_OBSERVED_CHARACTERS]
        return Check(item.name, item.sentence, item.severity, status, text, item.kind)

    if result is None:
        return check("crashed", "the library returned no result")
    crash = _crash_message(result.exception_info or {})
    if crash:
        return check("crashed", crash)
    missing = [index for index, row in enumerate(facts) if _is_missing(expectation, row)]
    failed = set((result.result or {}).get("unexpected_index_list") or ())
    if expectation.if_missing == "fail":
        failed.update(missing)
    elif expectation.if_missing == "not applicable" and len(missing) == len(facts):
        return check("not applicable", expectation.missing_reason)
    if failed or not result.success:
        rows = [facts[index] for index in sorted(failed)]
        return check("failed", _observed(expectation, rows, name_column))
    present = [row for index, row in enumerate(facts) if index not in missing]
    if not present:
        return check("passed", "")
    one = len(present) == 1
    return check("passed", _observed(expectation, present, "") if one else f"{len(present)} passed")


def _is_missing(expectation: Expectation, row: Row) -> bool:
    """Return whether the row lacks a fact of the expectation; the library skips such rows."""
    rule = expectation.rule
    columns = [getattr(rule, name, None) for name in ("column", "column_A", "column_B")]
    return any(bool(pd.isna(row.get(column))) for column in columns if column is not None)


def _observed(expectation: Expectation, rows: Sequence[Row], name_column: str) -> str:
    """Describe the observed values of the first rows, each with the row's name."""
    texts = []
    for row in rows[:MAX_NAMED]:
        is_missing = _is_missing(expectation, row)
        text = "unknown" if is_missing else expectation.observed_template.format_map(row)
        texts.append(f"{row[name_column]}: {text}" if name_column else text)
    more = f"; and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
    return "; ".join(texts) + more


def _crash_message(info: dict[str, Any]) -> str:
    """Return the message of an exception inside an expectation, or an empty text.

    Depending on its version, the library returns it flat or keyed by metric.
    """
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if isinstance(entry, dict) and entry.get("raised_exception"):
            return str(entry.get("exception_message", "no message"))[:MAX_CRASH_CHARACTERS]
    return ""


def run_or_crash(gate: str, run_checks: Callable[[], GateResult]) -> GateResult:
    """Return the result of `run_checks`, or a crashed gate if the facts cannot be computed."""
    try:
        return run_checks()
    except SPARK_READ_ERRORS as error:
        if is_infrastructure_error(error):
            raise
        sentence = "The gate's inputs can be read."
        return crashed_gate(gate, "facts_counted", sentence, first_line(error))


def crashed_gate(gate: str, name: str, sentence: str, error: str) -> GateResult:
    """Return a gate whose only check crashed with this error."""
    return GateResult(gate, (Check(name, sentence, "fail", "crashed", error, "conservation"),))


def require(result: GateResult, run: Run, override: GateOverride | None = None) -> None:
    """Record a gate's result; stop the night if the gate failed and was not overridden.

    Raises:
        GateFailed: the gate failed; the message lists every blocking check and what it observed.
    """
    record = result.as_record()
    run.gates.append(record)
    protected = [c.name for c in result.blocking_checks if c.kind in NEVER_OVERRIDDEN]
    if override is not None:
        assert override.gate == result.gate, "override_from_options checks the gate"
        refused = bool(protected) or not result.checks
        outcome: Outcome = "not needed" if result.passed else "refused" if refused else "overruled"
        record["accepted"] = override.as_record(outcome)
        if outcome == "overruled":
            return
    if result.passed:
        return
    blocking = "; ".join(
        f"{c.sentence} ({c.name}: {c.status}, {c.observed})" for c in result.blocking_checks
    )
    raise GateFailed(
        f"{result.gate} stopped {run.dates or run.job}: {blocking or 'it had nothing to check'}.",
        expected="every check of the gate to pass.",
        remedy=_remedy(result, run, protected, override_requested=override is not None),
    )


def _remedy(result: GateResult, run: Run, protected: list[str], *, override_requested: bool) -> str:
    fix = "fix the cause and run the job again"
    if run.dates:
        fix = f"read all checks with `report --date {run.dates.last}`, {fix}"
    if protected:
        names = ", ".join(protected)
        never = f"; conservation and schema checks cannot be overridden ({names})"
        return fix + (never if override_requested else "") + "."
    if GATES.get(run.job) != result.gate or not result.checks:
        return fix + "."
    nights = ""
    if run.dates and run.dates.num_nights == 1:
        nights = f" --date {run.dates}"
    elif run.dates:
        nights = f" --from {run.dates.first} --to {run.dates.last}"
    command = f"{run.job}{nights} --accept {short_name(result.gate)} --reason TEXT"
    # The override must apply to the same delivery, which may not be the default one.
    source = run.arguments.get("source")
    same = f", with the same delivery ({source})" if source else ""
    return f"{fix}, or override the gate: `{command}`{same}."
