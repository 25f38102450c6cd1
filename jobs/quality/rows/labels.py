"""Labels: those that a transaction's own row carries, and those with a source of their own."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.deliveries.mapping import Mapping
from jobs.deliveries.source import source_types
from jobs.quality.rows import parsing
from jobs.quality.rows.duplicates import (
    CONFLICTING,
    EARLIER_CONFLICTING,
    EARLIER_IDENTICAL,
    IDENTICAL,
    content,
    judge_copies,
)
from jobs.quality.rows.parsing import raw_column
from jobs.quality.rows.quarantine import raw_of_refused
from jobs.quality.rows.rules import Reason, id_rules, label_rules, reason, reasons, record_rules

DEFAULT_LABEL_SOURCE = "delivery"


def with_label(parsed: DataFrame, mapping: Mapping, types: dict[str, T.DataType]) -> DataFrame:
    """The label that a transaction's own row carries; a row without one is not labelled yet."""
    labels = mapping.labels
    if labels is None or labels.path is not None:
        return parsed.withColumns(
            {
                "is_fraud": F.lit(None).cast("boolean"),
                "label_time": F.lit(None).cast("timestamp"),
                "label_source": F.lit(None).cast("string"),
                "label_reasons": F.array().cast("array<string>"),
            }
        )
    read = _label_columns(parsed, mapping, types)
    return read.withColumn(
        "label_reasons",
        F.when(F.col("is_fraud_given"), reasons(label_rules())).otherwise(
            F.array().cast("array<string>")
        ),
    )


def _label_columns(rows: DataFrame, mapping: Mapping, types: dict[str, T.DataType]) -> DataFrame:
    """`is_fraud`, `label_time` and `label_source`, parsed, with what their rules need."""
    labels = mapping.labels
    assert labels is not None
    columns = labels.columns
    source: Column = F.lit(None).cast("string")
    if columns.source is not None:
        source = parsing.identifier(raw_column(columns.source), types[columns.source])
    if columns.label_time is not None:
        known = parsing.moment(
            raw_column(columns.label_time), types[columns.label_time], mapping.zone
        )
    else:
        delay = F.make_dt_interval(days=F.lit(labels.label_delay_days))
        # A time that is wrong is the transaction's to say.
        known = parsing.Time(F.col("event_time") + delay, F.lit(True), F.lit(True))
    flag = raw_column(columns.is_fraud)
    return rows.withColumns(
        {
            "is_fraud": parsing.flag(flag, types[columns.is_fraud]),
            "is_fraud_given": parsing.given(flag, types[columns.is_fraud]),
            "label_time": known.value,
            "label_time_given": known.given,
            "label_time_exists": known.exists,
            "label_source": F.coalesce(source, F.lit(DEFAULT_LABEL_SOURCE)),
        }
    )


def judged_labels(
    rows: DataFrame, standing: DataFrame, mapping: Mapping, late_days: int
) -> DataFrame:
    """Every label of a source of its own with its `reasons`, or `dropped` as told before.

    Labels of other nights are compared for `late_days` around; a copy of an older one is
    kept as a second row, which says the same.
    """
    types = source_types(rows)
    assert mapping.labels is not None
    name = mapping.labels.columns.transaction_id
    assert name is not None
    parsed = _label_columns(rows, mapping, types).withColumn(
        "transaction_id", parsing.identifier(raw_column(name), types[name])
    )
    own_ids = [] if "transaction_id" in mapping.pseudonymise else ["transaction_id"]
    rules = {
        **record_rules(),
        Reason.MISSING_TRANSACTION_ID: F.col("transaction_id").isNull(),
        **id_rules(own_ids),
        **label_rules(),
    }
    judged = judge_copies(
        parsed.withColumn("reasons", reasons(rules))
        .withColumn("copy_key", _label_key("label_source"))
        .withColumn("content", content("is_fraud"))
        .withColumn("told", F.lit(0))
        .withColumn("passes", F.size("reasons") == 0),
        standing.select(
            _label_key("source").alias("copy_key"),
            "business_date",
            content("is_fraud").alias("content"),
        ),
        late_days,
    )
    conflicts = F.col("copy").isin(CONFLICTING, EARLIER_CONFLICTING)
    told = F.array_compact(F.array(reason(Reason.CONFLICTING_DUPLICATE, conflicts)))
    again = F.coalesce(F.col("copy").isin(IDENTICAL, EARLIER_IDENTICAL), F.lit(False))
    return (
        judged.withColumn("reasons", F.concat("reasons", told))
        .withColumn("label_reasons", F.col("reasons"))
        .withColumn("dropped", (F.size("reasons") == 0) & again)
        .withColumn("accepted", (F.size("reasons") == 0) & ~again)
        .withColumn("raw", raw_of_refused(rows, mapping))
        .select(
            "transaction_id",
            "is_fraud",
            "label_time",
            "label_source",
            "business_date",
            "accepted",
            "dropped",
            "reasons",
            "raw",
        )
    )


def _label_key(source: str) -> Column:
    """The key of a label as one text; a label without an id or a time is no copy of another."""
    time = F.unix_micros("label_time").cast("string")
    key = F.concat(F.col("transaction_id"), F.lit("\0"), time, F.lit("\0"), F.col(source))
    own = F.concat(F.lit("\0"), F.monotonically_increasing_id().cast("string"))
    return F.coalesce(key, own)
