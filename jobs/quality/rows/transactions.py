"""Validate source rows: parse, apply the row rules, find duplicates, keep every reason.

The columns made here are those that the rules read. No row is dropped: the validated frame has
exactly the rows of the delivery, and accepted rows have empty `reasons`. The frame is staged
once, and the published tables are selections of it.
"""

from __future__ import annotations

from pydantic import SecretStr
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_defs.sources import HAS_TIME_OF_DAY, TRANSACTIONS
from jobs.deliveries.mapping import REFUSED, AttributeColumn, Mapping
from jobs.deliveries.pseudonyms import pseudonym
from jobs.deliveries.reading import RAW, source_types
from jobs.deliveries.source import SourceTable
from jobs.lake.dates import Dates
from jobs.quality.rows import numbers, parsing, times
from jobs.quality.rows.columns import (
    ACCEPTED,
    AMOUNT_IS_FINITE,
    AMOUNT_IS_NUMBER,
    CONTENT_HASH,
    DUPLICATE_KEY,
    DUPLICATE_KIND,
    HAS_INVALID_ATTRIBUTE,
    HAS_VALID_BUSINESS_DATE,
    LABEL_HASH,
    LABEL_REASONS,
    LABEL_SOURCE,
    PASSES_RULES,
    REASONS,
    local_time_flag,
    presence_flag,
)
from jobs.quality.rows.conversion import in_declared_currency
from jobs.quality.rows.duplicates import (
    CONFLICTING,
    CONFLICTS_WITH_ACCEPTED,
    IDENTICAL,
    IDENTICAL_TO_ACCEPTED,
    content_hash,
    mark_duplicates,
)
from jobs.quality.rows.labels import with_inline_label
from jobs.quality.rows.parsing import raw_column
from jobs.quality.rows.quarantine import raw_for_quarantine
from jobs.quality.rows.rules import (
    IDS,
    Reason,
    failed_reasons,
    reason_if,
    transaction_rules,
)
from jobs.runtime.sql_names import quoted

# Columns in which conflicting duplicates of a transaction id differ, besides the attributes.
CONTENT = ("event_time", "card_id", "merchant_id", "amount")


def rows_for_dates(raw: DataFrame, table: SourceTable, mapping: Mapping, dates: Dates) -> DataFrame:
    """Return the rows of these dates, with `business_date` and `HAS_VALID_BUSINESS_DATE`.

    A row without a valid date is assigned to the first of the dates.
    """
    types = source_types(raw)
    if table.business_date is not None:
        name = table.business_date
        parsed = times.parse_date(raw_column(name), types[name], mapping.format)
        is_valid = parsed.isNotNull()
    else:
        name = mapping.transactions.columns.event_time
        parsed = F.to_date(times.parse_time(raw_column(name), types[name], mapping).value)
        # The rules for event times report an invalid time.
        is_valid = F.lit(True)
    is_in_dates = F.col("business_date").between(dates.first, dates.last)
    return (
        raw.withColumn("business_date", parsed)
        .where(F.col("business_date").isNull() | is_in_dates)
        .withColumn(HAS_VALID_BUSINESS_DATE, is_valid & F.lit(True))
        .withColumn("business_date", F.coalesce("business_date", F.lit(dates.first)))
    )


def pseudonymise_ids(rows: DataFrame, columns: list[str], key: SecretStr | None) -> DataFrame:
    """Replace the ids in these source columns by pseudonyms, before any other step."""
    if not columns:
        return rows
    assert key is not None, "check_ready requires the key"
    types = source_types(rows)
    raw = F.col(RAW)
    for name in columns:
        text = parsing.parse_id(raw_column(name), types[name])
        raw = raw.withField(quoted(name), pseudonym(text, key))
    return rows.withColumn(RAW, raw)


def validated_transactions(
    rows: DataFrame, accepted_rows: DataFrame, mapping: Mapping, late_days: int
) -> DataFrame:
    """Return every row of the delivery with our columns, its `REASONS` and its label.

    Args:
        rows: from `rows_for_dates`.
        accepted_rows: rows of the table `transactions` of the `late_days` nights around.
        mapping: the mapping of the delivery.
        late_days: maximum age of an event at its business date, in days.
    """
    types = source_types(rows)
    attributes = tuple(mapping.attribute_types)
    parsed = with_inline_label(_parsed(rows, mapping, types), mapping, types)
    checked = parsed.withColumn(REASONS, failed_reasons(transaction_rules(mapping, late_days)))
    label_hash = content_hash("is_fraud", "label_time")
    marked = mark_duplicates(
        checked.withColumn(DUPLICATE_KEY, _key_or_unique("transaction_id"))
        .withColumn(CONTENT_HASH, content_hash(*CONTENT, *attributes))
        # Conflicting labels cannot be ranked. A row without a label does not conflict.
        .withColumn(LABEL_HASH, F.when(F.col("is_fraud").isNotNull(), label_hash))
        .withColumn(PASSES_RULES, F.size(REASONS) == 0),
        _accepted_keys(accepted_rows, parsed, attributes),
        late_days,
    )
    columns = [column.name for column in TRANSACTIONS.columns if column.name != "ingest_time"]
    label_columns = ["is_fraud", "label_time", LABEL_SOURCE, LABEL_REASONS]
    return (
        marked.withColumn(REASONS, F.concat(REASONS, _duplicate_reasons()))
        .withColumn(ACCEPTED, F.size(REASONS) == 0)
        .withColumn(RAW, raw_for_quarantine(rows, mapping))
        .select(*columns, *attributes, HAS_TIME_OF_DAY, *label_columns, ACCEPTED, REASONS, RAW)
    )


def _accepted_keys(
    accepted_rows: DataFrame, parsed: DataFrame, attributes: tuple[str, ...]
) -> DataFrame:
    """Return key, date and content hash of accepted rows; a missing attribute counts as null."""
    existing = [name for name in attributes if name in accepted_rows.columns]
    rows = accepted_rows.select(*CONTENT, "transaction_id", "business_date", *existing)
    for name in set(attributes) - set(existing):
        rows = rows.withColumn(name, F.lit(None).cast(parsed.schema[name].dataType))
    return rows.select(
        F.col("transaction_id").alias(DUPLICATE_KEY),
        "business_date",
        content_hash(*CONTENT, *attributes).alias(CONTENT_HASH),
    )


def _duplicate_reasons() -> Column:
    kind = F.col(DUPLICATE_KIND)
    return F.array_compact(
        F.array(
            reason_if(Reason.IDENTICAL_DUPLICATE, kind == IDENTICAL),
            reason_if(
                Reason.CONFLICTING_DUPLICATE, kind.isin(CONFLICTING, CONFLICTS_WITH_ACCEPTED)
            ),
            reason_if(Reason.DUPLICATE, kind == IDENTICAL_TO_ACCEPTED),
        )
    )


def _key_or_unique(name: str) -> Column:
    """Return the id, or a unique key for a row without one: such rows are not duplicates."""
    unique = F.concat(F.lit("\0"), F.monotonically_increasing_id().cast("string"))
    return F.coalesce(F.col(name), unique)


def _parsed(rows: DataFrame, mapping: Mapping, types: dict[str, T.DataType]) -> DataFrame:
    part = mapping.transactions
    columns = part.columns
    event_time = times.parse_time(
        raw_column(columns.event_time), types[columns.event_time], mapping
    )
    amount = numbers.parse_amount(
        raw_column(columns.amount), types[columns.amount], mapping.format, mapping.currency
    )
    ids = {name: parsing.parse_id(raw_column(source), types[source])
           for name in IDS for source in [getattr(columns, name)]}  # fmt: skip
    if part.no_merchant != REFUSED:
        ids["merchant_id"] = F.coalesce(ids["merchant_id"], F.lit(part.no_merchant))
    attributes = {
        name: _attribute(attribute, mapping, types[attribute.column])
        for name, attribute in part.attributes.items()
    }
    parsed = rows.withColumns(
        {
            **ids,
            "event_time": event_time.value,
            presence_flag("event_time"): event_time.is_present,
            local_time_flag("event_time"): event_time.local_time_exists,
            HAS_TIME_OF_DAY: F.coalesce(event_time.has_time_of_day, F.lit(True)),
            "amount": amount.value,
            presence_flag("amount"): amount.is_present,
            AMOUNT_IS_NUMBER: amount.is_number,
            AMOUNT_IS_FINITE: amount.is_finite,
            **attributes,
            HAS_INVALID_ATTRIBUTE: _has_invalid_attribute(attributes, mapping, types),
        }
    )
    return in_declared_currency(parsed, mapping)


def _attribute(attribute: AttributeColumn, mapping: Mapping, type_: T.DataType) -> Column:
    """Return the value of an attribute; a text loses blanks at its ends, an empty one is null."""
    raw = raw_column(attribute.column)
    if attribute.kind == "categorical":
        return parsing.parse_id(raw, type_)
    if attribute.kind == "money":
        # Its own currency is not declared, so no sign of a currency is understood.
        return numbers.parse_amount(raw, type_, mapping.format, currency=None).value
    return numbers.parse_number(raw, type_, mapping.format)


def _has_invalid_attribute(
    parsed: dict[str, Column], mapping: Mapping, types: dict[str, T.DataType]
) -> Column:
    """Return whether the text of a numeric attribute is present but not a number.

    NaN in a numeric source column counts as missing.
    """
    any_invalid = F.lit(False)
    for name, attribute in mapping.transactions.attributes.items():
        type_ = types[attribute.column]
        if attribute.kind != "categorical" and isinstance(type_, T.StringType):
            present = parsing.is_present(raw_column(attribute.column), type_)
            any_invalid = any_invalid | (present & parsed[name].isNull())
    return any_invalid
