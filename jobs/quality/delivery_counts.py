"""Row counts of each ingested night, for gate 1.

Each count is taken independently of the others and never derived from them: rows read are counted
in the source, all other rows in what was staged.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_defs.sources import HAS_TIME_OF_DAY
from jobs.lake.dates import Dates
from jobs.quality.rows.columns import ACCEPTED, DROPPED, LABEL_REASONS, REASONS
from jobs.quality.rows.rules import Reason


@dataclass(frozen=True)
class StagedDelivery:
    """The staged validated rows of a delivery, and the row counts of its source."""

    transactions: DataFrame
    labels: DataFrame | None
    """Labels of a separate source; None if labels are columns of the transactions."""
    rows_read: dict[date, int]
    labels_read: dict[date, int]


@dataclass(frozen=True)
class NightCounts:
    """Row counts of one night."""

    business_date: date
    rows_read: int = 0
    rows_accepted: int = 0
    rows_quarantined: int = 0
    rows_without_time: int = 0
    """Accepted rows of which only the date is known."""
    multiline_records: int = 0
    """Records, labels included, in which a stray quote may have joined several rows."""
    labels_read: int = 0
    labels_accepted: int = 0
    labels_dropped: int = 0
    """Identical duplicates of accepted labels."""
    labels_quarantined: int = 0

    @property
    def quarantined_share(self) -> float:
        """Return quarantined rows divided by rows read; 0 for a night without rows."""
        return self.rows_quarantined / self.rows_read if self.rows_read else 0.0


def count_nights(dates: Dates, staged: StagedDelivery) -> list[NightCounts]:
    """Return the counts of each night, from the source and from the staged rows."""
    of_transactions = _count_per_night(staged.transactions, {
        "accepted": F.count_if(ACCEPTED),
        "quarantined": F.count_if(F.size(REASONS) > 0),
        "without_time": F.count_if(F.col(ACCEPTED) & ~F.col(HAS_TIME_OF_DAY)),
        "multiline": _count_reason(Reason.RECORD_OF_MANY_LINES),
        "labels_accepted": F.count_if(F.col(ACCEPTED) & F.col("is_fraud").isNotNull()
                                      & (F.size(LABEL_REASONS) == 0)),
        "labels_quarantined": F.count_if(F.col(ACCEPTED) & (F.size(LABEL_REASONS) > 0)),
    })  # fmt: skip
    of_labels = {} if staged.labels is None else _count_per_night(staged.labels, {
        "accepted": F.count_if(ACCEPTED),
        "dropped": F.count_if(DROPPED),
        "quarantined": F.count_if(F.size(REASONS) > 0),
        "multiline": _count_reason(Reason.RECORD_OF_MANY_LINES),
    })  # fmt: skip
    nights = (dates.first + timedelta(days=offset) for offset in range(dates.num_nights))
    return [
        _night_counts(day, staged, of_transactions.get(day, {}), of_labels.get(day, {}))
        for day in nights
    ]


def _night_counts(
    day: date, staged: StagedDelivery, of_transactions: dict[str, int], of_labels: dict[str, int]
) -> NightCounts:
    if staged.labels is None:
        accepted = of_transactions.get("labels_accepted", 0)
        quarantined = of_transactions.get("labels_quarantined", 0)
        # A label in its transaction's row cannot be lost separately, so these are all labels.
        labels_read = accepted + quarantined
    else:
        accepted = of_labels.get("accepted", 0)
        quarantined = of_labels.get("quarantined", 0)
        labels_read = staged.labels_read.get(day, 0)
    return NightCounts(
        day,
        rows_read=staged.rows_read.get(day, 0),
        rows_accepted=of_transactions.get("accepted", 0),
        rows_quarantined=of_transactions.get("quarantined", 0),
        rows_without_time=of_transactions.get("without_time", 0),
        multiline_records=of_transactions.get("multiline", 0) + of_labels.get("multiline", 0),
        labels_read=labels_read,
        labels_accepted=accepted,
        labels_dropped=of_labels.get("dropped", 0),
        labels_quarantined=quarantined,
    )


def _count_reason(reason: Reason) -> Column:
    return F.count_if(F.array_contains(REASONS, reason.code))


def _count_per_night(rows: DataFrame, counts: dict[str, Column]) -> dict[date, dict[str, int]]:
    counted = rows.groupBy("business_date").agg(*(c.alias(name) for name, c in counts.items()))
    return {
        row["business_date"]: {name: int(row[name]) for name in counts} for row in counted.collect()
    }


def count_by_reason(rows: DataFrame, column: str) -> dict[str, int]:
    """Return the number of rows per reason code; a row with several codes counts for each."""
    counts = rows.select(F.explode(column).alias("reason")).groupBy("reason").count().collect()
    return {row["reason"]: row["count"] for row in sorted(counts, key=lambda row: row["reason"])}
