"""Read the data of the page from the lake.

Spark aggregates; only a bounded number of rows reaches the driver: one row per alert (at most the
alert budget), ten events per alerted card on the page, one row per night and histogram bin, three
examples per quarantine reason. Tables whose version a night pins are read at that version;
`alerts` and `quarantine` are read at their newest version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.local_rows import local_rows
from jobs.lake.nights import PINNED
from jobs.lake.run_history import night_records
from jobs.lake.runs import Run
from jobs.lake.tables import ALERTS, QUARANTINE, SCORES, TRANSACTIONS, Table, attribute_names
from jobs.runtime.sql_names import quoted

HISTORY_NIGHTS = 28
ALERTS_ON_PAGE = 100
EVENTS_PER_ALERT = 10
RAW_CHARACTERS = 300
# Bins of -log10(1 - score): four per power of ten; the last bin has no upper end.
BINS_PER_DECADE = 4
NUM_BINS = 8 * BINS_PER_DECADE
TIME_FORMAT = "yyyy-MM-dd HH:mm:ss"


@dataclass(frozen=True)
class ReportSource:
    """The lake, night and table versions that the page is read from."""

    lake: Lake
    day: date
    pins: Mapping[str, int]
    # Tables that are already open: listing the files of a version costs more than reading a night.
    _opened: dict[str, DataFrame] = field(default_factory=dict, init=False, repr=False)

    def nights(self, table: Table, days_before: int) -> DataFrame:
        """Return the rows of a table from `days_before` days before the night up to the night."""
        dates = Dates(self.day - timedelta(days=days_before), self.day)
        if table.name not in self._opened:
            version = self.pins.get(table.name) if table in PINNED else None
            self._opened[table.name] = self.lake.read(table, version)
        return self._opened[table.name].where(dates.sql)


@dataclass(frozen=True)
class Volume:
    """Row counts of one night."""

    day: date
    accepted: int = 0
    late: int = 0
    quarantined: int = 0
    alerts: int = 0


@dataclass(frozen=True)
class QuarantineReason:
    """Quarantined rows of one reason code, with examples of their raw text."""

    reason: str
    num_rows: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Event:
    """A transaction of an alerted card; `score` is None if it was never scored."""

    transaction_id: str
    event_time: str
    merchant_id: str
    amount: Decimal
    score: float | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    """The attributes of the mapping that this transaction has, as text."""


class Reason(NamedTuple):
    """A reason of an alert: a number or, for a category, a text; observed and expected."""

    feature: str
    observed: float | None
    expected: float | None
    observed_text: str | None = None
    expected_text: str | None = None

    @classmethod
    def of_row(cls, row: Row) -> Reason:
        """Return a reason as `alerts` holds it; tables of earlier versions have no texts."""
        stored = row.asDict()
        texts = stored.get("observed_text"), stored.get("expected_text")
        return cls(stored["feature"], stored["observed"], stored["expected"], *texts)


@dataclass(frozen=True)
class Alert:
    """An alerted card with its recent events, newest first."""

    rank: int
    card_id: str
    transaction_id: str
    num_transactions: int
    score: float
    amount: Decimal
    reasons: tuple[Reason, ...]
    events: tuple[Event, ...] = ()

    @property
    def event(self) -> Event | None:
        """Return the alerted transaction itself; None if it is no longer in the lake."""
        first = self.events[0] if self.events else None
        return first if first and first.transaction_id == self.transaction_id else None


@dataclass(frozen=True)
class ScoreDistribution:
    """Scores per bin, of this night and of the nights before, and the models of each night."""

    tonight: tuple[int, ...]
    before: tuple[int, ...]
    models: Mapping[date, tuple[str, ...]]
    in_sample: bool


def volumes(source: ReportSource, ingest: Run | None) -> list[Volume]:
    """Return the row counts of each night with a delivery and of the night itself, oldest first.

    The number of quarantined rows comes from the run record of each night's `ingest`. `ingest` is
    the run of this night. If a gate stopped it, its rows are in no table, so all its counts come
    from its record.
    """
    late = (F.to_date("event_time") < F.col("business_date")).cast("int")
    by_night: dict[date, Volume] = {source.day: Volume(source.day)}
    transactions = source.nights(TRANSACTIONS, HISTORY_NIGHTS).groupBy("business_date")
    for row in transactions.agg(F.count("*").alias("n"), F.sum(late).alias("late")).collect():
        by_night[row[0]] = Volume(row[0], accepted=row["n"], late=row["late"])
    for row in source.nights(ALERTS, HISTORY_NIGHTS).groupBy("business_date").count().collect():
        by_night[row[0]] = replace(by_night.get(row[0], Volume(row[0])), alerts=row["count"])
    dates = Dates(source.day - timedelta(days=HISTORY_NIGHTS), source.day)
    records = night_records(source.lake, dates)
    for day in by_night:
        run = ingest if day == source.day else records.get(day, {}).get("ingest")
        by_night[day] = _with_record(by_night[day], run)
    return [by_night[day] for day in sorted(by_night)]


def _with_record(volume: Volume, ingest: Run | None) -> Volume:
    """Add the numbers of accepted and quarantined rows that `ingest` recorded for the night."""
    counted = ingest.figures.get("by_night", {}).get(str(volume.day)) if ingest else None
    if counted is None:
        return volume
    _, accepted, quarantined = counted
    return replace(volume, accepted=volume.accepted or accepted, quarantined=quarantined)


def quarantine_reasons(source: ReportSource) -> list[QuarantineReason]:
    """Return the quarantined rows of the night by reason, most frequent reason first.

    A row with several reasons counts under each of them.
    """
    raw = F.substring("raw", 1, RAW_CHARACTERS)
    rows = (
        source.nights(QUARANTINE, 0)
        .select(F.explode("reasons").alias("reason"), raw.alias("raw"))
        .groupBy("reason")
        .agg(
            F.count("*").alias("n"),
            # Three examples without a sort; every run chooses the same ones.
            F.array_distinct(
                F.array(F.min("raw"), F.max("raw"), F.min_by("raw", F.xxhash64("raw")))
            ).alias("examples"),
        )
        .orderBy(F.desc("n"), "reason")
        .collect()
    )
    return [QuarantineReason(row["reason"], row["n"], tuple(row["examples"])) for row in rows]


def recorded_quarantine_reasons(ingest: Run) -> list[QuarantineReason]:
    """Return the quarantined rows by reason as a failed `ingest` counted them, without examples."""
    counts: dict[str, int] = {}
    for name in ("quarantined_by_reason", "labels_quarantined_by_reason"):
        for reason, num_rows in ingest.figures.get(name, {}).items():
            counts[reason] = counts.get(reason, 0) + num_rows
    return [
        QuarantineReason(reason, n)
        for reason, n in sorted(counts.items(), key=lambda x: (-x[1], x[0]))
    ]


def alerts(source: ReportSource) -> list[Alert]:
    """Return the alerts of the night by rank, each with the recent events of its card."""
    frame = source.nights(ALERTS, 0).orderBy("rank")
    rows = frame.collect()
    if not rows:
        return []
    events = _events(source, frame)
    return [
        Alert(
            rank=row["rank"],
            card_id=row["card_id"],
            transaction_id=row["transaction_id"],
            num_transactions=row["num_transactions"],
            score=row["score"],
            amount=row["amount"],
            reasons=tuple(map(Reason.of_row, row["reasons"])),
            events=tuple(events.get(row["card_id"], ())),
        )
        for row in rows
    ]


def _events(source: ReportSource, alerted: DataFrame) -> dict[str, list[Event]]:
    """Return the recent events of each card up to the alerted one, newest first."""
    history = source.nights(TRANSACTIONS, HISTORY_NIGHTS)
    attributes = attribute_names(history.columns)
    order = Window.partitionBy("card_id").orderBy(F.desc("event_time"), F.desc("transaction_id"))
    moment = F.struct("event_time", "transaction_id")
    keep = F.when(F.col("rank") <= ALERTS_ON_PAGE, EVENTS_PER_ALERT).otherwise(1)
    own = F.col("transaction_id") == F.col("alerted_id")
    recent = (
        history.join(
            F.broadcast(
                alerted.select("card_id", "rank", F.col("transaction_id").alias("alerted_id"))
            ),
            "card_id",
        )
        .withColumn("until", F.max(F.when(own, moment)).over(Window.partitionBy("card_id")))
        .where(moment <= F.col("until"))
        .withColumn("nth", F.row_number().over(order))
        .where(F.col("nth") <= keep)
        .select(
            "card_id",
            "nth",
            "transaction_id",
            "business_date",
            "merchant_id",
            "amount",
            F.date_format("event_time", TIME_FORMAT).alias("moment"),
            # A struct keeps them apart from our columns, whose names they may resemble.
            F.struct(F.lit(0), *(F.col(quoted(name)).cast("string") for name in attributes)).alias(
                "attributes"
            ),
        )
        .collect()
    )
    score_of = _scores(source, [(row["business_date"], row["transaction_id"]) for row in recent])
    events: dict[str, list[Event]] = {}
    for row in sorted(recent, key=lambda row: (row["card_id"], row["nth"])):
        event = Event(
            transaction_id=row["transaction_id"],
            event_time=row["moment"],
            merchant_id=row["merchant_id"],
            amount=row["amount"],
            score=score_of.get(row["transaction_id"]),
            attributes=_attributes(attributes, row["attributes"]),
        )
        events.setdefault(row["card_id"], []).append(event)
    return events


def _attributes(names: Sequence[str], values: Sequence[object]) -> dict[str, str]:
    """Return the attributes that a transaction has; the first of the values is a placeholder."""
    return {
        name: str(value) for name, value in zip(names, values[1:], strict=True) if value is not None
    }


def _scores(source: ReportSource, keys: list[tuple[date, str]]) -> dict[str, float]:
    """Return the scores of a few transactions; the short list is broadcast to the table."""
    if not keys:
        return {}
    wanted = local_rows(source.lake.spark, keys, "business_date date, transaction_id string")
    rows = (
        source.nights(SCORES, HISTORY_NIGHTS)
        .join(F.broadcast(wanted), ["business_date", "transaction_id"])
        .select("transaction_id", "score")
        .collect()
    )
    return {row["transaction_id"]: row["score"] for row in rows}


def _bin(score: Column) -> Column:
    rarity = -F.log10(F.greatest(1 - score, F.lit(1e-12)))
    return F.least(F.floor(rarity * BINS_PER_DECADE).cast("int"), F.lit(NUM_BINS - 1))


def score_distribution(source: ReportSource) -> ScoreDistribution:
    """Count the scores of the night and of the nights before it per bin."""
    rows = (
        source.nights(SCORES, HISTORY_NIGHTS)
        .groupBy("business_date", "model_version", "in_sample", _bin(F.col("score")).alias("bin"))
        .count()
        .collect()
    )
    tonight, before = [0] * NUM_BINS, [0] * NUM_BINS
    models: dict[date, set[str]] = {}
    for row in rows:
        counts = tonight if row["business_date"] == source.day else before
        counts[max(0, row["bin"])] += row["count"]
        models.setdefault(row["business_date"], set()).add(row["model_version"])
    return ScoreDistribution(
        tuple(tonight),
        tuple(before),
        {day: tuple(sorted(versions)) for day, versions in models.items()},
        any(row["in_sample"] for row in rows if row["business_date"] == source.day),
    )
