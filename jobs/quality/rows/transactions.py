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
from jobs.deliveries.mapping import Mapping
from jobs.deliveries.pseudonyms import pseudonym
from jobs.deliveries.source import SourceTable, quoted, source_types
from jobs.lake.dates import Dates
from jobs.quality.rows import parsing
from jobs.quality.rows.duplicates import (
    CONFLICTING,
    EARLIER_CONFLICTING,
    EARLIER_IDENTICAL,
    IDENTICAL,
    content,
    judge_copies,
)
from jobs.quality.rows.labels import with_label
from jobs.quality.rows.parsing import raw_column
from jobs.quality.rows.quarantine import raw_of_refused
from jobs.quality.rows.rules import (
    IDS,
    Reason,
    reason,
    reasons,
    transaction_rules,
)

# What tells two transactions of one id apart, beside their attributes.
CONTENT = ("event_time", "card_id", "merchant_id", "amount")


def of_dates(raw: DataFrame, table: SourceTable, mapping: Mapping, dates: Dates) -> DataFrame:
    """The rows that belong to these dates, with `business_date`.

    A row without a readable date belongs to the first of them.
    """
    types = source_types(raw)
    if table.business_date is not None:
        read = parsing.day(raw_column(table.business_date), types[table.business_date])
        readable = read.isNotNull()
    else:
        name = mapping.transactions.columns.event_time
        read = F.to_date(parsing.moment(raw_column(name), types[name], mapping.zone).value)
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


def pseudonymised(rows: DataFrame, columns: list[str], key: SecretStr | None) -> DataFrame:
    """Replace ids inside `raw`, before anything else sees them."""
    if not columns:
        return rows
    assert key is not None, "check_ready makes sure of the key"
    types = source_types(rows)
    raw = F.col("raw")
    for name in columns:
        text = parsing.identifier(raw_column(name), types[name])
        raw = raw.withField(quoted(name), pseudonym(text, key))
    return rows.withColumn("raw", raw)


def judged_transactions(
    rows: DataFrame, standing: DataFrame, mapping: Mapping, late_days: int
) -> DataFrame:
    """Every row of the delivery with its columns in our types, its `reasons` and its label.

    Args:
        rows: from `of_dates`.
        standing: `transactions` of the `late_days` nights around.
        mapping: what the columns mean.
        late_days: how late an event may come.
    """
    types = source_types(rows)
    attributes = tuple(mapping.transactions.attributes)
    parsed = with_label(_parsed(rows, mapping, types), mapping, types)
    told = parsed.withColumn("reasons", reasons(transaction_rules(mapping, late_days)))
    known = [name for name in attributes if name in standing.columns]
    others = standing.select(*CONTENT, "transaction_id", "business_date", *known)
    for name in set(attributes) - set(known):
        others = others.withColumn(name, F.lit(None).cast(parsed.schema[name].dataType))
    judged = judge_copies(
        told.withColumn("copy_key", _key_or_own("transaction_id"))
        .withColumn("content", content(*CONTENT, *attributes))
        # Of labels that contradict each other none is better than the other; none contradicts none.
        .withColumn(
            "told", F.when(F.col("is_fraud").isNotNull(), content("is_fraud", "label_time"))
        )
        .withColumn("passes", F.size("reasons") == 0),
        others.select(
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
        .withColumn("raw", raw_of_refused(rows, mapping))
        .select(*ours, *attributes, *labels, "accepted", "reasons", "raw")
    )


def _key_or_own(name: str) -> Column:
    """The id, or something that no other row has: rows without an id are no copies."""
    own = F.concat(F.lit("\0"), F.monotonically_increasing_id().cast("string"))
    return F.coalesce(F.col(name), own)


def _parsed(rows: DataFrame, mapping: Mapping, types: dict[str, T.DataType]) -> DataFrame:
    columns = mapping.transactions.columns
    happened = parsing.moment(
        raw_column(columns.event_time), types[columns.event_time], mapping.zone
    )
    amount = parsing.amount(raw_column(columns.amount), types[columns.amount])
    attributes = {
        name: parsing.number(raw_column(name), types[name])
        if kind == "numeric"
        else raw_column(name).cast("string")
        for name, kind in mapping.transactions.attributes.items()
    }
    return rows.withColumns(
        {
            **{
                name: parsing.identifier(raw_column(source), types[source])
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
            wrong = wrong | (parsing.given(raw_column(name), types[name]) & read[name].isNull())
    return wrong
