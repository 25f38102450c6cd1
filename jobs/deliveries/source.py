"""A delivery: its location, and the columns that we need.

The formats are Delta, Parquet, CSV and JSON lines (`Format`); `reading.py` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from pyspark.sql import types as T

from feature_defs.errors import UsageError
from jobs.deliveries.mapping import EVENT_DATE, Mapping
from jobs.runtime.paths import uri_of

# The formats that a source may have, as `--format` and the setting `source_format` write them.
Format = Literal["delta", "parquet", "csv", "json"]
_TEXT = (T.StringType,)
_WHOLE = (T.ByteType, T.ShortType, T.IntegerType, T.LongType)
_NUMBER = (*_WHOLE, T.FloatType, T.DoubleType, T.DecimalType)
_TIME = (T.TimestampType, T.TimestampNTZType)
# Source types that a column may have, by its role.
ALLOWED_TYPES: dict[str, tuple[type[T.DataType], ...]] = {
    "id": _TEXT + _WHOLE + (T.DecimalType,),
    "time": (*_TEXT, *_TIME, T.DateType),
    "epoch": (*_TEXT, *_NUMBER, *_TIME),
    "date": (*_TEXT, *_TIME, T.DateType),
    "amount": _TEXT + _NUMBER,
    "flag": (*_TEXT, *_NUMBER, T.BooleanType),
    "numeric": _TEXT + _NUMBER,
    "money": _TEXT + _NUMBER,
    "categorical": (*_TEXT, *_WHOLE, T.BooleanType),
}


@dataclass(frozen=True)
class Delivery:
    """The input of `ingest`: a source, its format and its mapping."""

    source: str
    format: Format
    mapping: Mapping
    allow_empty: bool = False
    """Whether a night without rows is published; otherwise it fails gate 1."""

    def __post_init__(self) -> None:
        if self.format not in get_args(Format):
            raise UsageError(
                f"The format {self.format!r} is not supported.",
                expected=f"one of {', '.join(get_args(Format))}.",
                remedy="correct --format.",
            )
        if self.format == "json" and self.mapping.format.java_encoding != "utf-8":
            raise UsageError(
                f"The mapping {self.mapping.name} reads JSON in {self.mapping.format.encoding}.",
                expected="UTF-8, the only encoding of JSON (RFC 8259).",
                remedy="remove `encoding` from [format], or convert the files.",
            )

    @property
    def uri(self) -> str:
        """Return the URI of the source without a slash at its end; local paths are absolute."""
        return uri_of(self.source)

    def uri_below(self, path: str) -> str:
        """Return the URI of a path below the source; of the source itself for an empty path."""
        return f"{self.uri}/{path}" if path else self.uri

    @property
    def arguments(self) -> dict[str, object]:
        """Return what `runs` records of the delivery: enough to run `ingest` again."""
        return {
            "source": self.uri,
            "format": self.format,
            "mapping": self.mapping.name,
            "mapping_content": self.mapping.model_dump_json(),
            "allow_empty": self.allow_empty,
        }


@dataclass(frozen=True)
class SourceTable:
    """The transactions or the labels of a delivery, and the columns that we need."""

    kind: Literal["transactions", "labels"]
    uri: str
    business_date: str | None
    """Source column of the business date; unset for the date of the event."""
    roles: tuple[tuple[str, str], ...]
    """Each needed source column with its role, a key of `ALLOWED_TYPES`."""

    @property
    def quarantine_source(self) -> str:
        """Return the value of the column `source` in the table `quarantine`."""
        return f"{self.uri}#{self.kind}"


def transactions_of(delivery: Delivery) -> SourceTable:
    """Return the source table of the delivery's transactions."""
    mapping = delivery.mapping
    part, columns = mapping.transactions, mapping.transactions.columns
    by_event = part.business_date == EVENT_DATE
    roles = [
        (getattr(columns, name), "id") for name in ("transaction_id", "card_id", "merchant_id")
    ]
    roles += [(columns.event_time, _time_role(mapping)), (columns.amount, "amount")]
    roles += [] if by_event else [(part.business_date, "date")]
    roles += [(columns.currency, "categorical")] if columns.currency else []
    roles += [(attribute.column, attribute.kind) for attribute in part.attributes.values()]
    if mapping.labels and mapping.labels.path is None:
        roles += _label_roles(mapping)
    return SourceTable(
        "transactions",
        delivery.uri_below(part.path),
        None if by_event else part.business_date,
        tuple(roles),
    )


def labels_of(delivery: Delivery) -> SourceTable | None:
    """Return the separate source table of the delivery's labels; None if there is none."""
    labels = delivery.mapping.labels
    if labels is None or labels.path is None or labels.business_date is None:
        return None
    roles = (*_label_roles(delivery.mapping), (labels.business_date, "date"))
    return SourceTable("labels", delivery.uri_below(labels.path), labels.business_date, roles)


def _time_role(mapping: Mapping) -> str:
    return "time" if mapping.format.epoch_unit_micros is None else "epoch"


def _label_roles(mapping: Mapping) -> list[tuple[str, str]]:
    assert mapping.labels is not None
    columns = mapping.labels.columns
    roles = [
        (columns.transaction_id, "id"),
        (columns.is_fraud, "flag"),
        (columns.label_time, _time_role(mapping)),
        (columns.source, "categorical"),
    ]
    return [(name, role) for name, role in roles if name is not None]
