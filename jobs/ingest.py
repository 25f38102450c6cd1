"""Write a delivery's rows to `transactions` and `labels`, and invalid rows to `quarantine`.

Reads   the delivery; transactions and labels of the nights within late_days, at the pinned versions
Writes  transactions, labels, quarantine of the dates, each replaced in one commit
Fails   when gate 1 fails: a row is lost, too many rows are quarantined, a night is empty, or the
        delivery is damaged

Each source is scanned twice: once to count its rows per night, once to check them. Checking
shuffles once, by transaction id; a range of nights shuffles once more, so that a table gets about
one file per night. Checked rows are staged; counts, gate and tables read what was staged.

    fraud-scoring ingest --lake ./lake --source ./bank --format csv --mapping simulated \
        --date 2018-04-01
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.sources import HAS_TIME_OF_DAY
from jobs.deliveries.late_arrivals import LateArrivalGuard
from jobs.deliveries.reading import RAW, mapped_types, read_source, source_types
from jobs.deliveries.source import Delivery, SourceTable, labels_of, transactions_of
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Stage
from jobs.lake.errors import is_infrastructure_error
from jobs.lake.nights import PINNED, Night
from jobs.lake.runs import Run
from jobs.lake.spark_errors import SPARK_READ_ERRORS, first_line
from jobs.lake.tables import LABELS, QUARANTINE, TRANSACTIONS, Table
from jobs.quality.delivery_counts import (
    NightCounts,
    StagedDelivery,
    count_by_reason,
    count_nights,
)
from jobs.quality.expectations import MAX_HISTORY_NIGHTS
from jobs.quality.gate import GateResult, crashed_gate, require, run_or_crash
from jobs.quality.overrides import GateOverride
from jobs.quality.row_counts import declared_types
from jobs.quality.rows.columns import ACCEPTED, LABEL_REASONS, LABEL_SOURCE, REASONS
from jobs.quality.rows.labels import validated_labels
from jobs.quality.rows.transactions import (
    pseudonymise_ids,
    rows_for_dates,
    validated_transactions,
)
from jobs.quality.suites import labels
from jobs.quality.suites import transactions as suite
from jobs.runtime.logs import log_event
from jobs.runtime.settings import Settings


@dataclass(frozen=True)
class Inputs:
    """What a run of `ingest` reads, resolved once at its start."""

    delivery: Delivery
    dates: Dates
    settings: Settings
    transactions: DataFrame
    """Published transactions of all nights, at the version that is pinned."""
    labels: DataFrame
    """Published labels, likewise."""

    def neighbours(self, table: DataFrame) -> DataFrame:
        """Return the published rows of the `late_days` nights before and after these nights.

        A night may be ingested, or run again, after later nights delivered some of its rows.
        """
        late = timedelta(days=self.settings.late_days)
        nearby = Dates(self.dates.first - late, self.dates.last + late)
        return table.where(F.expr(nearby.sql) & ~F.expr(self.dates.sql))

    def past_volumes(self) -> dict[date, int]:
        """Return the number of published transactions of each earlier night that gates look at."""
        first = self.dates.first
        since = first - timedelta(days=MAX_HISTORY_NIGHTS)
        day = F.col("business_date")
        rows = self.transactions.where((day >= F.lit(since)) & (day < F.lit(first)))
        return {
            row["business_date"]: row["count"]
            for row in rows.groupBy("business_date").count().collect()
        }


def run(night: Night, delivery: Delivery, override: GateOverride | None = None) -> None:
    """Ingest a delivery for the leased nights; `override` overrides gate 1 for this run.

    Raises:
        UsageError: alerts of one of the nights are published, and this is not a backfill.
        GateFailed: gate 1 failed, or the delivery cannot be read; nothing is published.
        NightHeld: later nights were ingested meanwhile; nothing is published.
    """
    lake = night.lake
    night.require_alerts_unpublished()
    # Read this before the pins, so that the check at the end sees all that later nights publish.
    late_arrivals = LateArrivalGuard.before(night)
    # A night that is ingested again has old pins, which lack what later nights delivered since.
    night.pins = lake.versions(PINNED)
    with night.job("ingest", delivery.arguments) as record, lake.staging(record.run_id) as stage:
        inputs = Inputs(
            delivery,
            night.dates,
            lake.settings,
            transactions=lake.read(TRANSACTIONS, night.pin(TRANSACTIONS.name)),
            labels=lake.read(LABELS, night.pin(LABELS.name)),
        )
        staged = _stage(inputs, stage, record)
        counts = count_nights(night.dates, staged)
        tables = _rows_by_table(delivery, staged, counts, record)
        _record_counts(record, counts, staged)
        require(_gate(inputs, counts, tables), record, override)
        late_arrivals.require_unchanged()
        for table, rows in tables.items():
            _publish(night, record, table, rows)


# -- read and check ------------------------------------------------------------------------------


def _stage(inputs: Inputs, stage: Stage, record: Run) -> StagedDelivery:
    """Count the source's rows, check them, and stage the result.

    Raises:
        GateFailed: the delivery is damaged.
    """
    try:
        rows, rows_read = _counted(inputs, transactions_of(inputs.delivery), record)
        transactions = _stage_transactions(inputs, stage, rows)
        own_labels = labels_of(inputs.delivery)
        if own_labels is None:
            return StagedDelivery(transactions, None, rows_read, {})
        rows, labels_read = _counted(inputs, own_labels, record)
        return StagedDelivery(
            transactions, _stage_labels(inputs, stage, rows), rows_read, labels_read
        )
    except SPARK_READ_ERRORS as error:
        if is_infrastructure_error(error):
            raise
        sentence = "The delivery can be read to its end."
        require(crashed_gate(suite.GATE, "delivery_readable", sentence, first_line(error)), record)
        raise


def _counted(inputs: Inputs, table: SourceTable, record: Run) -> tuple[DataFrame, dict[date, int]]:
    """Return the source's rows of these nights, and how many there are of each."""
    raw = read_source(inputs.transactions.sparkSession, inputs.delivery, table, inputs.dates)
    types = record.figures.setdefault("source_types", {})
    types[table.kind] = mapped_types(table, source_types(raw))
    rows = rows_for_dates(raw, table, inputs.delivery.mapping, inputs.dates)
    counts = rows.groupBy("business_date").count().collect()
    num_rows = sum(row["count"] for row in counts)
    log_event(f"ingest {inputs.dates}: read {table.uri}", rows=num_rows)
    return rows, {row["business_date"]: row["count"] for row in counts}


def _stage_transactions(inputs: Inputs, stage: Stage, rows: DataFrame) -> DataFrame:
    mapping, settings = inputs.delivery.mapping, inputs.settings
    secret = [getattr(mapping.transactions.columns, name) for name in mapping.pseudonymise]
    validated = validated_transactions(
        pseudonymise_ids(rows, secret, settings.pseudonym_key),
        inputs.neighbours(inputs.transactions),
        mapping,
        settings.late_days,
    )
    return stage(_by_night(validated, inputs.dates), "validated_transactions")


def _stage_labels(inputs: Inputs, stage: Stage, rows: DataFrame) -> DataFrame:
    mapping, settings = inputs.delivery.mapping, inputs.settings
    assert mapping.labels is not None
    name = mapping.labels.columns.transaction_id
    secret = [name] if name and "transaction_id" in mapping.pseudonymise else []
    validated = validated_labels(
        pseudonymise_ids(rows, secret, settings.pseudonym_key),
        inputs.neighbours(inputs.labels),
        mapping,
        settings.late_days,
    )
    return stage(_by_night(validated, inputs.dates), "validated_labels")


def _by_night(rows: DataFrame, dates: Dates) -> DataFrame:
    """Bring the rows of a night together; only a large night is split."""
    if dates.num_nights == 1:
        return rows
    return rows.hint("rebalance", F.col("business_date"))


# -- the rows of each table ----------------------------------------------------------------------


def _rows_by_table(
    delivery: Delivery, staged: StagedDelivery, counts: list[NightCounts], record: Run
) -> dict[Table, DataFrame]:
    """Return the rows to publish. Transactions come last: they never appear without the others."""
    further = _further_columns(delivery, counts)
    ingest_time = F.lit(record.started_at).alias("ingest_time")
    names = [ingest_time if name == "ingest_time" else name for name in TRANSACTIONS.column_names]
    accepted = staged.transactions.where(ACCEPTED)
    return {
        QUARANTINE: _quarantine(delivery, staged, record.run_id),
        LABELS: _labels(staged, record.started_at),
        TRANSACTIONS: accepted.select(*names, *further),
    }


def _further_columns(delivery: Delivery, counts: list[NightCounts]) -> dict[str, str]:
    """Return the columns of `transactions` that not every lake has, with their types."""
    further = dict(delivery.mapping.attribute_types)
    if any(night.rows_without_time for night in counts):
        further[HAS_TIME_OF_DAY] = "boolean"
    return further


def _labels(staged: StagedDelivery, ingest_time: datetime) -> DataFrame:
    if staged.labels is None:
        own = F.col("is_fraud").isNotNull() & (F.size(LABEL_REASONS) == 0)
        rows = staged.transactions.where(F.col(ACCEPTED) & own)
    else:
        rows = staged.labels.where(ACCEPTED)
    return rows.select(
        "transaction_id",
        "is_fraud",
        "label_time",
        F.col(LABEL_SOURCE).alias("source"),
        F.lit(ingest_time).alias("ingest_time"),
        "business_date",
    )


def _quarantine(delivery: Delivery, staged: StagedDelivery, run_id: str) -> DataFrame:
    def refused(rows: DataFrame, source: str, reasons: str) -> DataFrame:
        return rows.where(F.size(reasons) > 0).select(
            F.lit(source).alias("source"),
            RAW,
            F.col(reasons).alias(REASONS),
            F.lit(run_id).alias("run_id"),
            "business_date",
        )

    transactions, own_labels = transactions_of(delivery), labels_of(delivery)
    rows = refused(staged.transactions, transactions.quarantine_source, REASONS)
    if own_labels is not None and staged.labels is not None:
        return rows.unionByName(refused(staged.labels, own_labels.quarantine_source, REASONS))
    if delivery.mapping.labels is None:
        return rows
    # A transaction with an unreadable label is accepted; only the label is quarantined.
    accepted = staged.transactions.where(ACCEPTED)
    source = f"{transactions.uri}#labels"
    return rows.unionByName(refused(accepted, source, LABEL_REASONS))


def _publish(night: Night, record: Run, table: Table, rows: DataFrame) -> None:
    """Replace the dates of a table, unless it is known that nothing would change."""
    # A night that was never leased before has no rows to replace. Transactions are committed in any
    # case.
    if table is not TRANSACTIONS and night.epoch == 1 and rows.isEmpty():
        return
    night.publish(table, rows, record)


# -- counts and the gate -------------------------------------------------------------------------


def _record_counts(record: Run, counts: list[NightCounts], staged: StagedDelivery) -> None:
    """Put the counts into the run's record; only three numbers are stored per night."""
    record.rows.update(
        read=sum(night.rows_read for night in counts),
        accepted=sum(night.rows_accepted for night in counts),
        quarantined=sum(night.rows_quarantined for night in counts),
        labels=sum(night.labels_accepted for night in counts),
        labels_quarantined=sum(night.labels_quarantined for night in counts),
        label_duplicates_dropped=sum(night.labels_dropped for night in counts),
    )
    record.figures["quarantined_by_reason"] = count_by_reason(staged.transactions, REASONS)
    record.figures["labels_quarantined_by_reason"] = (
        count_by_reason(staged.transactions, LABEL_REASONS)
        if staged.labels is None
        else count_by_reason(staged.labels, REASONS)
    )
    record.figures["by_night"] = {
        str(night.business_date): [night.rows_read, night.rows_accepted, night.rows_quarantined]
        for night in counts
    }


def _gate(inputs: Inputs, counts: list[NightCounts], tables: dict[Table, DataFrame]) -> GateResult:
    transactions = tables[TRANSACTIONS]
    declared = declared_types(TRANSACTIONS) | _further_columns(inputs.delivery, counts)
    schema = suite.check_schema(dict(transactions.dtypes), declared)
    if not schema.passed:
        return schema
    checks = suite.expectations(
        inputs.settings.max_quarantined_share, allow_empty=inputs.delivery.allow_empty
    )
    has_labels = any(night.labels_accepted for night in counts)

    def run_checks() -> GateResult:
        counted = [
            suite.volume(counts, inputs.past_volumes()),
            *suite.compute_facts(transactions),
            *(
                labels.compute_facts(tables[LABELS])
                if has_labels
                else labels.facts_without_labels()
            ),
        ]
        return suite.run_checks(inputs.dates, counts, counted, checks)

    return schema + run_or_crash(suite.GATE, run_checks)
