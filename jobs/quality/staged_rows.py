"""Gates 2 and 4: may staged rows be published?

The staged columns must be those of the table, with one row per accepted transaction and valid
values. Columns are checked first, because rows with other columns cannot be counted. Then the keys
are compared, everything else is counted in one pass, and the checks run on facts per night.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame

from jobs.lake.dates import Dates
from jobs.lake.tables import Table
from jobs.quality.expectations import must_be_zero, not_null, required_columns, schema_equals
from jobs.quality.gate import Expectation, GateResult, run_or_crash, validate
from jobs.quality.row_counts import (
    NIGHT,
    AcceptedKeys,
    NightFacts,
    Profile,
    column_facts,
    declared_types,
    profile_with_key_coverage,
    rows_of_facts,
)


@dataclass(frozen=True)
class RowsToPublish:
    """Staged rows of some nights, and the accepted transactions that they must belong to."""

    accepted: AcceptedKeys
    staged: DataFrame
    types: Mapping[str, str]
    """Spark type of each staged column, as text."""
    dates: Dates


@dataclass(frozen=True)
class StagedSuite:
    """The checks of a gate on staged rows."""

    gate: str
    table: Table
    row_name: str
    """What one row of the table is, as used in sentences: "a score"."""
    profile: Profile
    """Facts to compute beyond keys and nulls."""
    further_expectations: Callable[[], Sequence[Expectation]]
    """Returns the expectations beyond columns, keys and nulls of the table."""

    def schema_expectations(self) -> list[Expectation]:
        """Return the expectations on facts per column."""
        return [schema_equals(self.table.name)]

    def expectations(self) -> list[Expectation]:
        """Return the expectations on facts per night."""
        return [*self._key_expectations(), *not_null(self.table), *self.further_expectations()]

    def run_checks(
        self, rows: RowsToPublish, further_facts: Callable[[], Sequence[NightFacts]] = tuple
    ) -> GateResult:
        """Run the gate on staged rows.

        Args:
            rows: the staged rows.
            further_facts: returns facts beyond the profile; called only if the columns are right.
        """
        facts = column_facts(rows.types, declared_types(self.table))
        schema = validate(self.gate, self.schema_expectations(), facts, "column")
        if not schema.passed:
            return schema
        return schema + run_or_crash(self.gate, lambda: self._check_rows(rows, further_facts))

    def facts(self, rows: RowsToPublish) -> list[NightFacts]:
        """Return the facts per night of keys, nulls and the profile."""
        required = [*required_columns(self.table), *self.profile.required_columns]
        profile = Profile(self.profile.range_columns, required, self.profile.aggregates)
        return profile_with_key_coverage(profile, rows.accepted, rows.staged)

    def _check_rows(
        self, rows: RowsToPublish, further_facts: Callable[[], Sequence[NightFacts]]
    ) -> GateResult:
        facts = rows_of_facts(rows.dates, [*self.facts(rows), *further_facts()])
        return validate(self.gate, self.expectations(), facts, NIGHT)

    def _key_expectations(self) -> list[Expectation]:
        """Return the expectations that staged and accepted keys are equal and unique."""
        return [
            must_be_zero(
                "num_missing_keys",
                "every_transaction_has_one",
                f"Every accepted transaction has {self.row_name}.",
                "conservation",
                "missing for {num_missing_keys} of {num_accepted}",
            ),
            must_be_zero(
                "num_unknown_keys",
                "every_row_is_accepted",
                f"Only accepted transactions have {self.row_name}.",
                "conservation",
                "{num_unknown_keys} of {num_staged} rows have no accepted transaction in their "
                "night",
            ),
            must_be_zero(
                "num_duplicates",
                "keys_unique",
                f"No transaction has {self.row_name} twice.",
                "conservation",
                "{num_duplicates} duplicate rows",
            ),
        ]
