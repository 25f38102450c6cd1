"""The tables of the lake: names, columns, partitioning.

The columns of sources and features come from `feature_defs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from feature_defs.catalogue import FEATURES, available
from feature_defs.errors import UsageError
from feature_defs.feature import Feature
from feature_defs.sources import HAS_TIME_OF_DAY, KEYS, MONEY, Column, Source
from feature_defs.sources import LABELS as LABELS_SOURCE
from feature_defs.sources import TRANSACTIONS as TRANSACTIONS_SOURCE

# The texts are those of categories; rows of earlier versions lack them.
REASON = (
    "struct<feature:string,observed:double,expected:double,contribution:double,"
    "observed_text:string,expected_text:string>"
)


@dataclass(frozen=True)
class Table:
    """A Delta table of the lake; every data table is partitioned by `business_date`."""

    name: str
    columns: tuple[Column, ...]
    partitioned_by: str | None = "business_date"

    @property
    def column_names(self) -> tuple[str, ...]:
        """Return the column names in order."""
        return tuple(column.name for column in self.columns)

    @property
    def ddl(self) -> str:
        """Return the schema as Spark DDL text."""
        return ", ".join(
            f"`{c.name}` {c.type}{'' if c.nullable else ' NOT NULL'}" for c in self.columns
        )


def _of_source(source: Source) -> Table:
    return Table(source.name, source.columns)


TRANSACTIONS = _of_source(TRANSACTIONS_SOURCE)
LABELS = _of_source(LABELS_SOURCE)

QUARANTINE = Table(
    "quarantine",
    (
        Column("source", "string", nullable=False),
        Column("raw", "string", nullable=False),
        Column("reasons", "array<string>", nullable=False),
        Column("run_id", "string", nullable=False),
        Column("business_date", "date", nullable=False),
    ),
)


def features_table(features: Mapping[str, Feature]) -> Table:
    """Return the table `features` of a lake that has these features."""
    columns = (Column(feature.name, feature.type) for feature in features.values())
    return Table("features", (*(TRANSACTIONS_SOURCE.column(name) for name in KEYS), *columns))


# The features that every lake has. A lake with attributes has more columns (`features_table`).
FEATURES_TABLE = features_table(available(FEATURES))

SCORES = Table(
    "scores",
    (
        *(TRANSACTIONS_SOURCE.column(name) for name in KEYS),
        Column("reconstruction_error", "double", nullable=False),
        Column("ranking_value", "double", nullable=False),
        Column("score", "double", nullable=False),
        Column("reasons", f"array<{REASON}>", nullable=False),
        Column("num_context_events", "int", nullable=False),
        Column("in_sample", "boolean", nullable=False),
        Column("model_version", "string", nullable=False),
        Column("run_id", "string", nullable=False),
        Column("scored_at", "timestamp", nullable=False),
    ),
)

ALERTS = Table(
    "alerts",
    (
        Column("business_date", "date", nullable=False),
        Column("rank", "int", nullable=False),
        Column("card_id", "string", nullable=False),
        Column("transaction_id", "string", nullable=False),
        Column("num_transactions", "int", nullable=False),
        Column("score", "double", nullable=False),
        Column("amount", MONEY, nullable=False),
        Column("reasons", f"array<{REASON}>", nullable=False),
    ),
)

NIGHTS = Table(
    "nights",
    (
        Column("business_date", "date", nullable=False),
        # `open`, or `done` after the report of the night is written.
        Column("state", "string", nullable=False),
        Column("holder", "string"),
        Column("lease_until", "timestamp"),
        Column("epoch", "bigint", nullable=False),
        Column("pins", "map<string,bigint>", nullable=False),
        Column("model_version", "string"),
        # Record of each finished job by job name: JSON with the values of its row of `runs`.
        Column("jobs", "map<string,string>", nullable=False),
        # The backfill that ran the night again, with its reason, as JSON.
        Column("backfill", "string"),
        Column("updated_at", "timestamp", nullable=False),
    ),
    partitioned_by=None,
)

RUNS = Table(
    "runs",
    (
        Column("run_id", "string", nullable=False),
        Column("job", "string", nullable=False),
        Column("first_date", "date"),
        Column("last_date", "date"),
        Column("status", "string", nullable=False),
        Column("actor", "string", nullable=False),
        Column("started_at", "timestamp", nullable=False),
        Column("finished_at", "timestamp", nullable=False),
        Column("seconds", "double", nullable=False),
        Column("versions_in", "map<string,bigint>", nullable=False),
        Column("versions_out", "map<string,bigint>", nullable=False),
        Column("rows", "map<string,bigint>", nullable=False),
        # Gate results, arguments and figures as JSON, because each job has its own fields.
        Column("gates", "string", nullable=False),
        Column("arguments", "string", nullable=False),
        Column("figures", "string", nullable=False),
        Column("model_version", "string"),
        Column("package_version", "string", nullable=False),
        Column("error", "string"),
    ),
    partitioned_by=None,
)

METRICS = Table(
    "metrics",
    (
        Column("run_id", "string", nullable=False),
        Column("model", "string", nullable=False),
        Column("first_date", "date", nullable=False),
        Column("last_date", "date", nullable=False),
        Column("name", "string", nullable=False),
        Column("value", "double"),
        Column("interval_low", "double"),
        Column("interval_high", "double"),
        Column("evaluated_at", "timestamp", nullable=False),
    ),
    partitioned_by=None,
)

TABLES = {
    table.name: table
    for table in (
        TRANSACTIONS,
        LABELS,
        QUARANTINE,
        FEATURES_TABLE,
        SCORES,
        ALERTS,
        NIGHTS,
        RUNS,
        METRICS,
    )
}


def attribute_names(columns: Iterable[str]) -> tuple[str, ...]:
    """Return those columns of `transactions` that a mapping has added: the attributes."""
    own = {*TRANSACTIONS.column_names, HAS_TIME_OF_DAY}
    return tuple(name for name in columns if name not in own)


def require_known_tables(names: Iterable[str]) -> None:
    """Check the table names that the setting `tables` maps to catalog names.

    Raises:
        UsageError: a name is not a table of the lake; the message lists all such names.
    """
    unknown = sorted(set(names) - set(TABLES))
    if unknown:
        raise UsageError(
            f"A lake has no table {', '.join(map(repr, unknown))}.",
            expected=f"names from {', '.join(TABLES)}.",
            remedy="correct the setting `tables` (FRAUD_TABLES).",
        )
