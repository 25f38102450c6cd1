"""What gate 1 knows of a night: counts taken apart from each other, never derived.

Rows read are counted in the source, the others in what was written aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake.dates import Dates
from jobs.quality.rows.rules import Reason


@dataclass(frozen=True)
class Staged:
    """Judged rows as they were written aside, and what the source was counted to have."""

    transactions: DataFrame
    labels: DataFrame | None
    rows_read: dict[date, int]
    labels_read: dict[date, int]


@dataclass(frozen=True)
class NightCounts:
    """What was counted for one night."""

    business_date: date
    rows_read: int = 0
    rows_accepted: int = 0
    rows_quarantined: int = 0
    records_of_many_lines: int = 0
    """Records that a stray quote may have made of several rows, labels included."""
    labels_read: int = 0
    labels_accepted: int = 0
    labels_dropped: int = 0
    labels_quarantined: int = 0

    @property
    def quarantined_share(self) -> float:
        """Refused rows over rows read; 0 for a night without rows."""
        return self.rows_quarantined / self.rows_read if self.rows_read else 0.0


def count_nights(dates: Dates, staged: Staged) -> list[NightCounts]:
    """Counts of each night, from the source and from what was written aside."""
    ours = _per_night(staged.transactions, {
        "accepted": F.count_if("accepted"),
        "refused": F.count_if(F.size("reasons") > 0),
        "of_many_lines": _count_refused(Reason.RECORD_OF_MANY_LINES),
        "labelled": F.count_if(F.col("accepted") & F.col("is_fraud").isNotNull()
                               & (F.size("label_reasons") == 0)),
        "label_refused": F.count_if(F.col("accepted") & (F.size("label_reasons") > 0)),
    })  # fmt: skip
    told = {} if staged.labels is None else _per_night(staged.labels, {
        "accepted": F.count_if("accepted"),
        "dropped": F.count_if("dropped"),
        "refused": F.count_if(F.size("reasons") > 0),
        "of_many_lines": _count_refused(Reason.RECORD_OF_MANY_LINES),
    })  # fmt: skip
    nights = (dates.first + timedelta(days=offset) for offset in range(dates.num_nights))
    return [_of_night(day, staged, ours.get(day, {}), told.get(day, {})) for day in nights]


def _of_night(day: date, staged: Staged, ours: dict[str, int], told: dict[str, int]) -> NightCounts:
    inside = staged.labels is None
    accepted = ours.get("labelled", 0) if inside else told.get("accepted", 0)
    refused = ours.get("label_refused", 0) if inside else told.get("refused", 0)
    return NightCounts(
        day,
        rows_read=staged.rows_read.get(day, 0),
        rows_accepted=ours.get("accepted", 0),
        rows_quarantined=ours.get("refused", 0),
        records_of_many_lines=ours.get("of_many_lines", 0) + told.get("of_many_lines", 0),
        # Labels inside transactions are read with them, and conserved with them.
        labels_read=accepted + refused if inside else staged.labels_read.get(day, 0),
        labels_accepted=accepted,
        labels_dropped=told.get("dropped", 0),
        labels_quarantined=refused,
    )


def _count_refused(why: Reason) -> Column:
    return F.count_if(F.array_contains("reasons", why.code))


def _per_night(rows: DataFrame, counts: dict[str, Column]) -> dict[date, dict[str, int]]:
    counted = rows.groupBy("business_date").agg(*(c.alias(name) for name, c in counts.items()))
    return {
        row["business_date"]: {name: int(row[name]) for name in counts} for row in counted.collect()
    }


def by_reason(rows: DataFrame, column: str) -> dict[str, int]:
    """How many refused rows have each reason; a row with several counts for each."""
    counts = rows.select(F.explode(column).alias("reason")).groupBy("reason").count().collect()
    return {row["reason"]: row["count"] for row in sorted(counts, key=lambda row: row["reason"])}
