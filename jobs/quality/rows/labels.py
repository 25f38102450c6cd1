"""Labels: those inside a transaction's own row, and those from a separate source."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.deliveries.mapping import Mapping
from jobs.deliveries.reading import RAW, source_types
from jobs.quality.rows import parsing, times
from jobs.quality.rows.columns import (
    ACCEPTED,
    CONTENT_HASH,
    DROPPED,
    DUPLICATE_KEY,
    DUPLICATE_KIND,
    LABEL_HASH,
    LABEL_REASONS,
    LABEL_SOURCE,
    PASSES_RULES,
    REASONS,
    local_time_flag,
    presence_flag,
)
from jobs.quality.rows.duplicates import (
    CONFLICTING,
    CONFLICTS_WITH_ACCEPTED,
    IDENTICAL,
    IDENTICAL_TO_ACCEPTED,
    content_hash,
    mark_duplicates,
)
from jobs.quality.rows.parsing import raw_column
from jobs.quality.rows.quarantine import raw_for_quarantine
from jobs.quality.rows.rules import (
    Reason,
    failed_reasons,
    id_rules,
    label_rules,
    reason_if,
    record_rules,
)

DEFAULT_LABEL_SOURCE = "delivery"


def with_inline_label(
    parsed: DataFrame, mapping: Mapping, types: dict[str, T.DataType]
) -> DataFrame:
    """Add the label inside a transaction's own row; a row without one is not labelled yet."""
    labels = mapping.labels
    if labels is None or labels.path is not None:
        return parsed.withColumns(
            {
                "is_fraud": F.lit(None).cast("boolean"),
                "label_time": F.lit(None).cast("timestamp"),
                LABEL_SOURCE: F.lit(None).cast("string"),
                LABEL_REASONS: F.array().cast("array<string>"),
            }
        )
    labelled = _with_label_columns(parsed, mapping, types)
    return labelled.withColumn(
        LABEL_REASONS,
        F.when(F.col(presence_flag("is_fraud")), failed_reasons(label_rules())).otherwise(
            F.array().cast("array<string>")
        ),
    )


def _with_label_columns(
    rows: DataFrame, mapping: Mapping, types: dict[str, T.DataType]
) -> DataFrame:
    """Add `is_fraud`, `label_time` and `LABEL_SOURCE`, with the flags that their rules need."""
    labels = mapping.labels
    assert labels is not None
    columns = labels.columns
    source: Column = F.lit(None).cast("string")
    if columns.source is not None:
        source = parsing.parse_id(raw_column(columns.source), types[columns.source])
    if columns.label_time is not None:
        name = columns.label_time
        label_time = times.parse_time(raw_column(name), types[name], mapping)
    else:
        delay = F.make_dt_interval(days=F.lit(labels.label_delay_days))
        # The rules for transactions report an invalid event time; the label does not repeat it.
        always = F.lit(True)
        label_time = times.ParsedTime(F.col("event_time") + delay, always, always, always)
    flag = raw_column(columns.is_fraud)
    return rows.withColumns(
        {
            "is_fraud": parsing.parse_flag(flag, types[columns.is_fraud], labels.values),
            presence_flag("is_fraud"): parsing.is_present(flag, types[columns.is_fraud]),
            "label_time": label_time.value,
            presence_flag("label_time"): label_time.is_present,
            local_time_flag("label_time"): label_time.local_time_exists,
            LABEL_SOURCE: F.coalesce(source, F.lit(DEFAULT_LABEL_SOURCE)),
        }
    )


def validated_labels(
    rows: DataFrame, accepted_labels: DataFrame, mapping: Mapping, late_days: int
) -> DataFrame:
    """Return every label of a separate source with its outcome.

    A label is accepted, quarantined (it has `REASONS`), or `DROPPED` as an identical duplicate.
    Labels are compared with those of `late_days` nights before and after their own. A duplicate
    of an older label is accepted as a second row with the same content.

    Args:
        rows: from `rows_for_dates`.
        accepted_labels: rows of the table `labels` of the nights around.
        mapping: the mapping of the delivery.
        late_days: number of nights before and after its own that a label is compared with.
    """
    duplicates = mark_duplicates(
        _checked_by_rules(rows, mapping)
        .withColumn(DUPLICATE_KEY, _label_key(LABEL_SOURCE))
        .withColumn(CONTENT_HASH, content_hash("is_fraud"))
        .withColumn(LABEL_HASH, F.lit(0))
        .withColumn(PASSES_RULES, F.size(REASONS) == 0),
        accepted_labels.select(
            _label_key("source").alias(DUPLICATE_KEY),
            "business_date",
            content_hash("is_fraud").alias(CONTENT_HASH),
        ),
        late_days,
    )
    kind = F.col(DUPLICATE_KIND)
    conflict = reason_if(
        Reason.CONFLICTING_DUPLICATE, kind.isin(CONFLICTING, CONFLICTS_WITH_ACCEPTED)
    )
    is_identical = F.coalesce(kind.isin(IDENTICAL, IDENTICAL_TO_ACCEPTED), F.lit(False))
    return (
        duplicates.withColumn(REASONS, F.concat(REASONS, F.array_compact(F.array(conflict))))
        .withColumn(LABEL_REASONS, F.col(REASONS))
        .withColumn(DROPPED, (F.size(REASONS) == 0) & is_identical)
        .withColumn(ACCEPTED, (F.size(REASONS) == 0) & ~is_identical)
        .withColumn(RAW, raw_for_quarantine(rows, mapping))
        .select(
            "transaction_id",
            "is_fraud",
            "label_time",
            LABEL_SOURCE,
            "business_date",
            ACCEPTED,
            DROPPED,
            REASONS,
            RAW,
        )
    )


def _checked_by_rules(rows: DataFrame, mapping: Mapping) -> DataFrame:
    """Add the parsed label columns and `REASONS` from the row rules."""
    types = source_types(rows)
    assert mapping.labels is not None
    name = mapping.labels.columns.transaction_id
    assert name is not None
    parsed = _with_label_columns(rows, mapping, types).withColumn(
        "transaction_id", parsing.parse_id(raw_column(name), types[name])
    )
    ids = [] if "transaction_id" in mapping.pseudonymise else ["transaction_id"]
    rules = {
        **record_rules(),
        Reason.MISSING_TRANSACTION_ID: F.col("transaction_id").isNull(),
        **id_rules(ids),
        **label_rules(),
    }
    return parsed.withColumn(REASONS, failed_reasons(rules))


def _label_key(source: str) -> Column:
    """Return the key of a label as one text.

    A label without an id or a time gets a unique key, so it is a duplicate of no other label.
    """
    time = F.unix_micros("label_time").cast("string")
    key = F.concat(F.col("transaction_id"), F.lit("\0"), time, F.lit("\0"), F.col(source))
    unique = F.concat(F.lit("\0"), F.monotonically_increasing_id().cast("string"))
    return F.coalesce(key, unique)
