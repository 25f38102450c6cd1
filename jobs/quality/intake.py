"""From source rows to judged rows: parse, test, compare copies, and keep why.

The columns made here are the ones that the rules speak of. Nothing is dropped: a judged frame
has exactly the rows of its delivery, with empty `reasons` for the accepted ones, and is written
aside once; what is published are selections of it.
"""

from __future__ import annotations

from datetime import date

from pydantic import SecretStr
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from feature_defs.sources import TRANSACTIONS
from jobs.delivery import SourceTable, source_types
from jobs.lake.delta_io import Dates
from jobs.mapping import Mapping
from jobs.quality import parsing
from jobs.quality.duplicates import (
    CONFLICTING,
    EARLIER_CONFLICTING,
    EARLIER_IDENTICAL,
    IDENTICAL,
    content,
    judge_copies,
)
from jobs.quality.pseudonyms import pseudonym
from jobs.quality.quarantine import raw_json
from jobs.quality.rules import (
    IDS,
    Reason,
    id_rules,
    label_rules,
    reason,
    reasons,
    transaction_rules,
)

# What tells two transactions of one id apart, beside their attributes.
CONTENT = ("event_time", "card_id", "merchant_id", "amount")
DEFAULT_LABEL_SOURCE = "delivery"


def of_dates(raw: DataFrame, table: SourceTable, mapping: Mapping, dates: Dates) -> DataFrame:
    """The rows that belong to these dates, with `business_date`.

    A row without a readable date belongs to the first of them.
    """
    types = source_types(raw)
    if table.business_date is not None:
        read = parsing.day(_raw(table.business_date), types[table.business_date])
        readable = read.isNotNull()
    else:
        name = mapping.transactions.columns.event_time
        read = F.to_date(parsing.moment(_raw(name), types[name], mapping.zone).value)
        # What is wrong with the time is said by the rules for times.
        readable = F.lit(True)
    return (
        raw.withColumn("business_date", read)
        .where(F.col("business_date").isNull() | F.col("business_date").between(*_ends(dates)))
        .withColumn("business_date_readable", readable & F.lit(True))
        .withColumn("business_date", F.coalesce("business_date", F.lit(dates.first)))
    )


def _ends(dates: Dates) -> tuple[date, date]:
    return dates.first, dates.last


def _raw(name: str) -> Column:
    return F.col("raw").getField(name)


def pseudonymised(rows: DataFrame, columns: list[str], key: SecretStr | None) -> DataFrame:
    """Replace ids inside `raw`, before anything else sees them."""
    if not columns:
        return rows
    assert key is not None, "check_ready makes sure of the key"
    types = source_types(rows)
    raw = F.col("raw")
    for name in columns:
        text = parsing.identifier(_raw(name), types[name])
        raw = raw.withField(f"`{name}`", pseudonym(text, key))
    return rows.withColumn("raw", raw)


def judged_transactions(
    rows: DataFrame, earlier: DataFrame, mapping: Mapping, late_days: int
) -> DataFrame:
    """Every row of the delivery with its columns in our types, its `reasons` and its label.

    Args:
        rows: from `of_dates`.
        earlier: `transactions` of the `late_days` nights before.
        mapping: what the columns mean.
        late_days: how late an event may come.
    """
    types = source_types(rows)
    attributes = tuple(mapping.transactions.attributes)
    parsed = _with_label(_parsed(rows, mapping, types), mapping, types)
    told = parsed.withColumn("reasons", reasons(transaction_rules(mapping, late_days)))
    known = [name for name in attributes if name in earlier.columns]
    before = earlier.select(*CONTENT, "transaction_id", "business_date", *known)
    for name in set(attributes) - set(known):
        before = before.withColumn(name, F.lit(None).cast(parsed.schema[name].dataType))
    judged = judge_copies(
        told.withColumn("copy_key", _key_or_own("transaction_id"))
        .withColumn("content", content(*CONTENT, *attributes))
        .withColumn("passes", F.size("reasons") == 0),
        before.select(
            F.col("transaction_id").alias("copy_key"),
            "business_date",
            content(*CONTENT, *attributes).alias("content"),
        ),
        late_days,
    )
    copies = F.array_compact(
        F.array(
            reason(Reason.IDENTICAL_DUPLICATE, F.col("copy") == IDENTICAL),
            reason(
                Reason.CONFLICTING_DUPLICATE,
                F.col("copy").isin(CONFLICTING, EARLIER_CONFLICTING),
            ),
            reason(Reason.DUPLICATE, F.col("copy") == EARLIER_IDENTICAL),
        )
    )
    ours = [column.name for column in TRANSACTIONS.columns if column.name != "ingest_time"]
    labels = ["is_fraud", "label_time", "label_source", "label_reasons"]
    return (
        judged.withColumn("reasons", F.concat("reasons", copies))
        .withColumn("accepted", F.size("reasons") == 0)
        .withColumn("raw", _raw_of_refused(rows, mapping))
        .select(*ours, *attributes, *labels, "accepted", "reasons", "raw")
    )


def _key_or_own(name: str) -> Column:
    """The id, or something that no other row has: rows without an id are no copies."""
    own = F.concat(F.lit("\0"), F.monotonically_increasing_id().cast("string"))
    return F.coalesce(F.col(name), own)


def _raw_of_refused(rows: DataFrame, mapping: Mapping) -> Column:
    fields = rows.schema["raw"].dataType
    assert isinstance(fields, T.StructType)
    refused = (F.size("reasons") > 0) | (F.size("label_reasons") > 0)
    return F.when(refused, raw_json(fields, pseudonymised=bool(mapping.pseudonymise)))


def _parsed(rows: DataFrame, mapping: Mapping, types: dict[str, T.DataType]) -> DataFrame:
    columns = mapping.transactions.columns
    happened = parsing.moment(_raw(columns.event_time), types[columns.event_time], mapping.zone)
    amount = parsing.amount(_raw(columns.amount), types[columns.amount])
    attributes = {
        name: parsing.number(_raw(name), types[name])
        if kind == "numeric"
        else _raw(name).cast("string")
        for name, kind in mapping.transactions.attributes.items()
    }
    return rows.withColumns(
        {
            **{
                name: parsing.identifier(_raw(source), types[source])
                for name in IDS
                for source in [getattr(columns, name)]
            },
            "event_time": happened.value,
            "event_time_given": happened.given,
            "event_time_exists": happened.exists,
            "amount": amount.value,
            "amount_given": amount.given,
            "amount_is_number": amount.is_number,
            "amount_is_finite": amount.is_finite,
            **attributes,
            "attribute_unparsable": _unparsable(attributes, mapping, types),
        }
    )


def _unparsable(read: dict[str, Column], mapping: Mapping, types: dict[str, T.DataType]) -> Column:
    """A numeric attribute of text that is there and no number; NaN in a number is an absence."""
    wrong = F.lit(False)
    for name, kind in mapping.transactions.attributes.items():
        if kind == "numeric" and isinstance(types[name], T.StringType):
            wrong = wrong | (parsing.given(_raw(name), types[name]) & read[name].isNull())
    return wrong


def _with_label(parsed: DataFrame, mapping: Mapping, types: dict[str, T.DataType]) -> DataFrame:
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
        source = parsing.identifier(_raw(columns.source), types[columns.source])
    if columns.label_time is not None:
        known = parsing.moment(_raw(columns.label_time), types[columns.label_time], mapping.zone)
    else:
        delay = F.make_dt_interval(days=F.lit(labels.label_delay_days))
        # A time that is wrong is the transaction's to say.
        known = parsing.Time(F.col("event_time") + delay, F.lit(True), F.lit(True))
    flag = _raw(columns.is_fraud)
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
    rows: DataFrame, earlier: DataFrame, mapping: Mapping, late_days: int
) -> DataFrame:
    """Every label of a source of its own with its `reasons`, or `dropped` as told before.

    Labels of earlier nights are compared for the `late_days` before; a copy of an older one is
    kept as a second row, which says the same.
    """
    types = source_types(rows)
    assert mapping.labels is not None
    name = mapping.labels.columns.transaction_id
    assert name is not None
    parsed = _label_columns(rows, mapping, types).withColumn(
        "transaction_id", parsing.identifier(_raw(name), types[name])
    )
    own_ids = [] if "transaction_id" in mapping.pseudonymise else ["transaction_id"]
    rules = {
        Reason.MALFORMED_RECORD: F.col("malformed"),
        Reason.UNREADABLE_BUSINESS_DATE: ~F.col("business_date_readable"),
        Reason.MISSING_TRANSACTION_ID: F.col("transaction_id").isNull(),
        **id_rules(own_ids),
        **label_rules(),
    }
    judged = judge_copies(
        parsed.withColumn("reasons", reasons(rules))
        .withColumn("copy_key", _label_key("label_source"))
        .withColumn("content", content("is_fraud"))
        .withColumn("passes", F.size("reasons") == 0),
        earlier.select(
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
        .withColumn("raw", _raw_of_refused(rows, mapping))
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
