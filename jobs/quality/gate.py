"""Gates: Great Expectations decides whether a night may go on. The one door to that library.

A gate looks at facts, not at rows: what was counted of a night is one row of a small table
(`jobs/quality/row_counts.py`), and expectations say what has to hold for it. So a check costs no pass
over the data, and a failing one names its nights. Run on a million rows, the library took a dozen
Spark jobs for what two passes count.

A gate passes only when every `fail` check was evaluated and holds. A check that crashed is a
failed one, and so is a check whose fact is not known, unless it says otherwise.
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
from jobs.lake.spark_errors import UNREADABLE, first_line
from jobs.quality.overrides import GATES, NEVER_OVERRULED, GateOverride, Outcome

Severity = Literal["fail", "warn"]
Status = Literal["passed", "failed", "crashed", "not applicable"]
Kind = Literal["conservation", "schema", "nulls", "range", "volume", "drift", "figures", "model"]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Expectation:
    """What has to hold for every row of facts; `severity` says whether it can stop the night."""

    name: str
    sentence: str
    rule: Any
    """A Great Expectations expectation over the columns of the facts."""
    words: str
    """What was seen, filled in from a row of facts (`str.format`)."""
    severity: Severity = "fail"
    kind: Kind = "range"
    unknown: Literal["fails", "holds", "undecided"] = "fails"
    """What a fact that is not there means. An extreme of no rows holds; a comparison with too
    few nights is undecided: not applicable."""
    undecided: str = ""
    """Why nothing can be decided when no fact is there."""


@dataclass(frozen=True)
class Check:
    """What became of one expectation."""

    name: str
    sentence: str
    severity: Severity
    status: Status
    observed: str
    kind: Kind = "range"

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
    def stops(self) -> list[Check]:
        """The checks that stop the night."""
        return [check for check in self.checks if check.stops]

    @property
    def passed(self) -> bool:
        """True when there were checks and none of them stops the night."""
        return bool(self.checks) and not self.stops

    def as_record(self) -> dict[str, Any]:
        """What `runs` keeps of the gate."""
        return {
            "gate": self.gate,
            "passed": self.passed,
            "checks": [asdict(check) for check in self.checks],
        }

    def __add__(self, other: GateResult) -> GateResult:
        """The same gate over other facts."""
        assert self.gate == other.gate
        return GateResult(self.gate, self.checks + other.checks)


def validate(
    gate: str, expectations: Sequence[Expectation], facts: Sequence[Row], named_by: str = ""
) -> GateResult:
    """Run expectations over facts; `named_by` is the column that names a row (a night's date)."""
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
    # Facts are few: the library may tell each row that does not hold.
    checkpoint = context.checkpoints.add(
        Checkpoint(name=gate, validation_definitions=[definition], result_format="COMPLETE")
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": pd.DataFrame(list(facts))})
    (validation,) = outcome.run_results.values()
    results = {result.expectation_config.id: result for result in validation.results}
    return GateResult(
        gate,
        tuple(_check(item, results.get(item.rule.id), facts, named_by) for item in expectations),
    )


def _check(expectation: Expectation, result: Any, facts: Sequence[Row], named_by: str) -> Check:
    def check(status: Status, observed: str) -> Check:
        item = expectation
        return Check(item.name, item.sentence, item.severity, status, observed[:2000], item.kind)

    if result is None:
        return check("crashed", "no result came back")
    crash = _exception(result.exception_info or {})
    if crash:
        return check("crashed", crash)
    unknown = [place for place, row in enumerate(facts) if _unknown(expectation, row)]
    wrong = set((result.result or {}).get("unexpected_index_list") or ())
    if expectation.unknown == "fails":
        wrong.update(unknown)
    elif expectation.unknown == "undecided" and len(unknown) == len(facts):
        return check("not applicable", expectation.undecided)
    if wrong or not result.success:
        return check("failed", _seen(expectation, [facts[p] for p in sorted(wrong)], named_by))
    known = [row for place, row in enumerate(facts) if place not in unknown]
    seen = _seen(expectation, known, "") if len(known) == 1 else f"{len(known)} hold"
    return check("passed", seen if known else "")


def _unknown(expectation: Expectation, row: Row) -> bool:
    """Whether a fact that the expectation looks at is not there; the library skips those."""
    rule = expectation.rule
    columns = [getattr(rule, name, None) for name in ("column", "column_A", "column_B")]
    return any(bool(pd.isna(row.get(column))) for column in columns if column is not None)


def _seen(expectation: Expectation, rows: Sequence[Row], named_by: str) -> str:
    """The rows in words, each with its name; the first few of many."""
    said = []
    for row in rows[:MAX_NAMED]:
        unknown = _unknown(expectation, row)
        words = "not known" if unknown else expectation.words.format_map(row)
        said.append(f"{row[named_by]}: {words}" if named_by else words)
    more = f"; and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
    return "; ".join(said) + more


def _exception(info: dict[str, Any]) -> str:
    """The message of an error inside an expectation; flat or keyed by metric, by version."""
    entries = [info] if "raised_exception" in info else list(info.values())
    for entry in entries:
        if isinstance(entry, dict) and entry.get("raised_exception"):
            return str(entry.get("exception_message", "it gave no message"))[:500]
    return ""


def judged(gate: str, judge: Callable[[], GateResult]) -> GateResult:
    """What `judge` decides; when the facts cannot be counted, a gate that failed for that."""
    try:
        return judge()
    except UNREADABLE as error:
        if is_infrastructure_error(error):
            raise
        sentence = "What the gate looks at can be read."
        return uncounted(gate, "facts_counted", sentence, first_line(error))


def uncounted(gate: str, name: str, sentence: str, error: str) -> GateResult:
    """A gate that could not look at anything, and why."""
    return GateResult(gate, (Check(name, sentence, "fail", "crashed", error, "conservation"),))


def require(result: GateResult, run: Run, acceptance: GateOverride | None = None) -> None:
    """Record a gate's result and stop the night when it did not pass and nobody overrules it.

    Raises:
        GateFailed: it did not; every check that stops the night is named with what it saw.
    """
    record = result.as_record()
    run.gates.append(record)
    guarded = [check.name for check in result.stops if check.kind in NEVER_OVERRULED]
    if acceptance is not None:
        assert acceptance.gate == result.gate, "the command line has made sure of it"
        refused = bool(guarded) or not result.checks
        outcome: Outcome = "not needed" if result.passed else "refused" if refused else "overruled"
        record["accepted"] = acceptance.as_record(outcome)
        if outcome == "overruled":
            return
    if result.passed:
        return
    seen = "; ".join(f"{c.sentence} ({c.name}: {c.status}, {c.observed})" for c in result.stops)
    raise GateFailed(
        f"{result.gate} stopped {run.dates or run.job}: {seen or 'it had nothing to check'}.",
        expected="every check of the gate to pass.",
        remedy=_remedy(result, run, guarded, accepted=acceptance is not None),
    )


def _remedy(result: GateResult, run: Run, guarded: list[str], *, accepted: bool) -> str:
    mend = "mend the cause and run the job again"
    if run.dates:
        mend = f"look at all checks with `report --date {run.dates.last}`, {mend}"
    if guarded:
        never = f"; nobody overrules conservation or schema ({', '.join(guarded)})"
        return mend + (never if accepted else "") + "."
    if GATES.get(run.job) != result.gate or not result.checks:
        return mend + "."
    word = result.gate.rstrip(")").split("(")[1]
    nights = ""
    if run.dates and run.dates.num_nights == 1:
        nights = f" --date {run.dates}"
    elif run.dates:
        nights = f" --from {run.dates.first} --to {run.dates.last}"
    # An acceptance is of what was looked at: the delivery may be another than the usual one.
    source = run.arguments.get("source")
    same = f", with the same delivery ({source})" if source else ""
    return f"{mend}, or overrule the gate: `{run.job}{nights} --accept {word} --reason TEXT`{same}."
