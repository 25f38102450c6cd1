"""The gate before a publication: are staged rows those of the table, one per transaction, and sane?

Gates 2 and 4 are this one. Columns come first, for rows of other columns cannot be counted; then
the keys, one pass for everything else, and one verdict over facts per night.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame

from jobs.lake.dates import Dates
from jobs.lake.tables import Table
from jobs.quality.expectations import given, none_of, required, same_columns
from jobs.quality.gate import Expectation, GateResult, judged, validate
from jobs.quality.row_counts import (
    NIGHT,
    AcceptedKeys,
    Counted,
    Profile,
    columns,
    counted_with_coverage,
    declared_types,
    nights,
)


@dataclass(frozen=True)
class RowsToPublish:
    """Staged rows of some nights, and the accepted transactions that each must belong to."""

    accepted: AcceptedKeys
    staged: DataFrame
    types: Mapping[str, str]
    """Spark's names of the types that were written, by column."""
    dates: Dates


@dataclass(frozen=True)
class StagedSuite:
    """What a gate expects of staged rows."""

    gate: str
    table: Table
    row_is: str
    """What one row of the table is, in a sentence: "a score"."""
    profile: Profile
    """What is counted beyond keys and nulls."""
    own: Callable[[], Sequence[Expectation]]
    """Makes the expectations beyond columns, keys and nulls of the table."""

    def schema_expectations(self) -> list[Expectation]:
        """Over facts of columns."""
        return [same_columns(self.table.name)]

    def expectations(self) -> list[Expectation]:
        """Over facts per night."""
        return [*self._keys(), *given(self.table), *self.own()]

    def judge(
        self, rows: RowsToPublish, further: Callable[[], Sequence[Counted]] = tuple
    ) -> GateResult:
        """The gate; `further` counts what the profile cannot, once the columns are known."""
        found = columns(rows.types, declared_types(self.table))
        schema = validate(self.gate, self.schema_expectations(), found, "column")
        if not schema.passed:
            return schema
        return schema + judged(self.gate, lambda: self._judge_rows(rows, further))

    def facts(self, rows: RowsToPublish) -> list[Counted]:
        """What is counted per night."""
        nulls = [*required(self.table), *self.profile.required]
        profile = Profile(self.profile.ranged, nulls, self.profile.counted)
        return counted_with_coverage(profile, rows.accepted, rows.staged)

    def _judge_rows(
        self, rows: RowsToPublish, further: Callable[[], Sequence[Counted]]
    ) -> GateResult:
        facts = nights(rows.dates, [*self.facts(rows), *further()])
        return validate(self.gate, self.expectations(), facts, NIGHT)

    def _keys(self) -> list[Expectation]:
        """The keys staged are the keys accepted, both ways, each once."""
        return [
            none_of(
                "num_without",
                "every_transaction_has_one",
                f"Every accepted transaction has {self.row_is}.",
                "conservation",
                "{num_without} of {num_accepted} without",
            ),
            none_of(
                "num_strangers",
                "every_row_is_accepted",
                f"There is {self.row_is} for accepted transactions only.",
                "conservation",
                "{num_strangers} of {num_staged} rows belong to no transaction of their night",
            ),
            none_of(
                "num_copies",
                "keys_unique",
                f"A transaction has {self.row_is} once.",
                "conservation",
                "{num_copies} rows more than keys",
            ),
        ]
