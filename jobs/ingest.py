"""Bring a delivery's rows into `transactions` and `labels`, and refused rows into `quarantine`.

Reads   the delivery, transactions and labels of the late_days nights around (pinned)
Writes  transactions, labels, quarantine of the dates, each replaced whole in one commit
Fails   gate 1: a row is lost, too many rows are refused, a night is empty, the delivery is damaged

Each source is scanned twice: once for its rows per night, once to judge them. Judging shuffles
by transaction id, once; a range of nights shuffles once more, so that a table gets about one
file per night. Judged rows are written aside, and counts, gate and tables all read what was
written.

    fraud-scoring ingest --lake ./lake --source ./bank --format csv --mapping simulated \
        --date 2018-04-01
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.deliveries.later_nights import LaterNights
from jobs.deliveries.source import (
    ATTRIBUTE_TYPES,
    Delivery,
    SourceTable,
    labels_of,
    mapped_types,
    read_source,
    source_types,
    transactions_of,
)
from jobs.lake.dates import Dates
from jobs.lake.errors import is_infrastructure_error
from jobs.lake.nights import PINNED, Night
from jobs.lake.runs import Run
from jobs.lake.spark_errors import UNREADABLE, first_line
from jobs.lake.tables import LABELS, QUARANTINE, TRANSACTIONS, Table
from jobs.quality.delivery_counts import NightCounts, Staged, by_reason, count_nights
from jobs.quality.expectations import MAX_HISTORY_NIGHTS
from jobs.quality.gate import GateResult, judged, require, uncounted
from jobs.quality.overrides import GateOverride
from jobs.quality.row_counts import declared_types
from jobs.quality.rows.labels import judged_labels
from jobs.quality.rows.transactions import judged_transactions, of_dates, pseudonymised
from jobs.quality.suites import labels
from jobs.quality.suites import transactions as suite
from jobs.runtime.logs import log_event


def run(night: Night, delivery: Delivery, acceptance: GateOverride | None = None) -> None:
    """Ingest a delivery for the nights held; gate 1 may be overruled for this run.

    Raises:
        UsageError: people were alerted of one of the nights, and it is not run again.
        GateFailed: gate 1 said no, or the delivery cannot be read; nothing is published.
        NightHeld: later nights were at work meanwhile; nothing is published.
    """
    lake = night.lake
    night.require_alerts_unpublished()
    later = LaterNights.of(night)
    # A night that is ingested again has old pins, which lack what later nights have brought since.
    night.pins = lake.versions(PINNED)
    with night.job("ingest", delivery.arguments) as record:
        try:
            staged = _stage(night, delivery, record)
            ready = _publishable(night, delivery, record, staged)
            facts = count_nights(night.dates, staged)
            _note(record, facts, staged)
            require(_gate(night, delivery, facts, ready), record, acceptance)
            later.require_unchanged()
            for table, rows in ready.items():
                _publish(night, record, table, rows)
        finally:
            lake.discard_staged(record.run_id)


# -- judging -------------------------------------------------------------------------------------


def _stage(night: Night, delivery: Delivery, record: Run) -> Staged:
    """Count the source's rows, judge them, and write them aside.

    Raises:
        GateFailed: the delivery is damaged.
    """
    try:
        table = transactions_of(delivery)
        rows, rows_read = _counted(night, delivery, table, record)
        transactions = _stage_transactions(night, delivery, rows, record)
        own = labels_of(delivery)
        if own is None:
            return Staged(transactions, None, rows_read, {})
        rows, labels_read = _counted(night, delivery, own, record)
        labels = _stage_labels(night, delivery, rows, record)
        return Staged(transactions, labels, rows_read, labels_read)
    except UNREADABLE as error:
        if is_infrastructure_error(error):
            raise
        sentence = "The delivery can be read to its end."
        require(uncounted(suite.GATE, "delivery_readable", sentence, first_line(error)), record)
        raise


def _counted(
    night: Night, delivery: Delivery, table: SourceTable, record: Run
) -> tuple[DataFrame, dict[date, int]]:
    raw = read_source(night.lake.spark, delivery, table, night.dates)
    types = record.figures.setdefault("source_types", {})
    types[table.kind] = mapped_types(table, source_types(raw))
    rows = of_dates(raw, table, delivery.mapping, night.dates)
    counts = rows.groupBy("business_date").count().collect()
    log_event(f"ingest {night.dates}: read {table.place}", rows=sum(row["count"] for row in counts))
    return rows, {row["business_date"]: row["count"] for row in counts}


def _standing(night: Night, table: Table) -> DataFrame:
    """Rows that were accepted in the `late_days` nights before these and after them.

    A night may be ingested, or run again, when later ones have brought some of its rows.
    """
    late = timedelta(days=night.lake.settings.late_days)
    near = Dates(night.dates.first - late, night.dates.last + late)
    others = F.expr(near.sql) & ~F.expr(night.dates.sql)
    return night.lake.read(table, night.pin(table.name)).where(others)


def _stage_transactions(
    night: Night, delivery: Delivery, rows: DataFrame, record: Run
) -> DataFrame:
    mapping, settings = delivery.mapping, night.lake.settings
    secret = [getattr(mapping.transactions.columns, name) for name in mapping.pseudonymise]
    judged = judged_transactions(
        pseudonymised(rows, secret, settings.pseudonym_key),
        _standing(night, TRANSACTIONS),
        mapping,
        settings.late_days,
    )
    return night.lake.stage(_by_night(judged, night.dates), record.run_id, "judged_transactions")


def _stage_labels(night: Night, delivery: Delivery, rows: DataFrame, record: Run) -> DataFrame:
    mapping, settings = delivery.mapping, night.lake.settings
    assert mapping.labels is not None
    name = mapping.labels.columns.transaction_id
    secret = [name] if name and "transaction_id" in mapping.pseudonymise else []
    judged = judged_labels(
        pseudonymised(rows, secret, settings.pseudonym_key),
        _standing(night, LABELS),
        mapping,
        settings.late_days,
    )
    return night.lake.stage(_by_night(judged, night.dates), record.run_id, "judged_labels")


def _by_night(judged: DataFrame, dates: Dates) -> DataFrame:
    """Rows of a night together, split only where a night is large."""
    if dates.num_nights == 1:
        return judged
    return judged.hint("rebalance", F.col("business_date"))


# -- what will be published ----------------------------------------------------------------------


def _publishable(
    night: Night, delivery: Delivery, record: Run, staged: Staged
) -> dict[Table, DataFrame]:
    """The rows of each table; transactions come last, so that they never stand alone."""
    attributes = delivery.mapping.transactions.attributes
    ingest_time = F.lit(record.started_at).alias("ingest_time")
    names = [ingest_time if name == "ingest_time" else name for name in TRANSACTIONS.column_names]
    accepted = staged.transactions.where("accepted")
    return {
        QUARANTINE: _quarantine(delivery, record, staged),
        LABELS: _labels(staged, record.started_at),
        TRANSACTIONS: accepted.select(*names, *attributes),
    }


def _labels(staged: Staged, ingest_time: datetime) -> DataFrame:
    if staged.labels is None:
        own = F.col("is_fraud").isNotNull() & (F.size("label_reasons") == 0)
        rows = staged.transactions.where(F.col("accepted") & own)
    else:
        rows = staged.labels.where("accepted")
    return rows.select(
        "transaction_id",
        "is_fraud",
        "label_time",
        F.col("label_source").alias("source"),
        F.lit(ingest_time).alias("ingest_time"),
        "business_date",
    )


def _quarantine(delivery: Delivery, record: Run, staged: Staged) -> DataFrame:
    transactions = transactions_of(delivery)

    def refused(rows: DataFrame, source: str, reasons: str) -> DataFrame:
        return rows.where(F.size(reasons) > 0).select(
            F.lit(source).alias("source"),
            "raw",
            F.col(reasons).alias("reasons"),
            F.lit(record.run_id).alias("run_id"),
            "business_date",
        )

    own = labels_of(delivery)
    parts = [refused(staged.transactions, transactions.label, "reasons")]
    if own is not None and staged.labels is not None:
        parts.append(refused(staged.labels, own.label, "reasons"))
    elif delivery.mapping.labels is not None:
        # A label that cannot be read does not refuse its transaction, and stands on its own.
        source = f"{transactions.place}#labels"
        parts.append(refused(staged.transactions.where("accepted"), source, "label_reasons"))
    rows = parts[0]
    for part in parts[1:]:
        rows = rows.unionByName(part)
    return rows


def _publish(night: Night, record: Run, table: Table, rows: DataFrame) -> None:
    """Replace the dates of a table; nothing for nothing is no commit, but for transactions."""
    # Only a night that nobody has held before is known to have nothing to be replaced.
    if table is not TRANSACTIONS and night.epoch == 1 and rows.isEmpty():
        return
    night.publish(table, rows, record)


# -- counting and the gate -----------------------------------------------------------------------


def _note(record: Run, facts: list[NightCounts], staged: Staged) -> None:
    """Put counts into the run's record; what grows with the nights is three numbers for each."""
    record.rows.update(
        read=sum(night.rows_read for night in facts),
        accepted=sum(night.rows_accepted for night in facts),
        quarantined=sum(night.rows_quarantined for night in facts),
        labels=sum(night.labels_accepted for night in facts),
        labels_quarantined=sum(night.labels_quarantined for night in facts),
        label_duplicates_dropped=sum(night.labels_dropped for night in facts),
    )
    record.figures["quarantined_by_reason"] = by_reason(staged.transactions, "reasons")
    refused_labels = (
        by_reason(staged.transactions, "label_reasons")
        if staged.labels is None
        else by_reason(staged.labels, "reasons")
    )
    record.figures["labels_quarantined_by_reason"] = refused_labels
    record.figures["by_night"] = {
        str(night.business_date): [night.rows_read, night.rows_accepted, night.rows_quarantined]
        for night in facts
    }


def _gate(
    night: Night, delivery: Delivery, facts: list[NightCounts], ready: dict[Table, DataFrame]
) -> GateResult:
    kinds = delivery.mapping.transactions.attributes
    declared = declared_types(TRANSACTIONS)
    declared |= {name: ATTRIBUTE_TYPES[kind] for name, kind in kinds.items()}
    schema = suite.judge_schema(dict(ready[TRANSACTIONS].dtypes), declared)
    if not schema.passed:
        return schema
    checks = suite.expectations(
        night.lake.settings.max_quarantined_share, allow_empty=delivery.allow_empty
    )
    labelled = any(count_nights.labels_accepted for count_nights in facts)

    def judge() -> GateResult:
        counted = [
            suite.volume(facts, _history(night)),
            *suite.counted(ready[TRANSACTIONS]),
            *(labels.counted(ready[LABELS]) if labelled else labels.nothing_counted()),
        ]
        return suite.judge(night.dates, facts, counted, checks)

    return schema + judged(suite.GATE, judge)


def _history(night: Night) -> dict[date, int]:
    first = night.dates.first
    since = first - timedelta(days=MAX_HISTORY_NIGHTS)
    rows = night.lake.read(TRANSACTIONS, night.pin(TRANSACTIONS.name)).where(
        (F.col("business_date") >= F.lit(since)) & (F.col("business_date") < F.lit(first))
    )
    counts = rows.groupBy("business_date").count().collect()
    return {row["business_date"]: row["count"] for row in counts}
