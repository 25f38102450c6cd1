"""Compiles feature definitions to one Spark plan: exact at every transaction's moment.

Every window is a running sum over signed changes. An event enters a window's sum at
`event_time + delay` and leaves it at `event_time + delay + length`; a label counts from the later
of its event's entry and its `label_time` until a newer label replaces it. Sorted by time, with
what happens at a moment applied before the transactions of that moment, one pass per entity
gives every window of every transaction:

- money is summed in integer minor units, so neither order nor partitioning can change a bit;
- the cost is one sort of the changes, whatever the number of events per key (a sliding frame
  recomputes every row's window and falls over on a busy merchant);
- the price is one extra row per event and window in the sort.

Shuffles: one per entity, and one to bring labels to their transactions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from feature_defs.catalogue import FEATURES
from feature_defs.definitions import Entity, Feature, Function
from feature_defs.definitions import Window as FeatureWindow
from feature_defs.sequences import (
    TRANSACTION_AMOUNT,
    TRANSACTION_DAY_OF_WEEK,
    TRANSACTION_HOUR_OF_DAY,
)
from feature_defs.sources import KEYS, MONEY_SCALE, LabelPolicy

MICROS_PER_SECOND = 1_000_000
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
MINOR_UNITS = 10**MONEY_SCALE

# What happens at a moment (0) comes before the transactions of that moment (1).
CHANGE, TRANSACTION = 0, 1
ENTRY_NOW = "entry"


@dataclass(frozen=True)
class Knowledge:
    """What features are made from: `labels` and `transactions` reach back over the lookback."""

    transactions: DataFrame
    labels: DataFrame
    policy: LabelPolicy


def compile_features(known: Knowledge, first: date, last: date, late_days: int) -> DataFrame:
    """Features of the transactions delivered from `first` to `last` (business dates, included).

    A row delivered late may lie up to `late_days` before `first`; windows are counted from its
    `event_time`. Returns the keys and one column per feature of the catalogue, nulls (never NaN)
    where a definition leaves an empty window undefined.
    """
    span = _Span.of(first, last, late_days)
    delivered = F.col("business_date").between(F.lit(first), F.lit(last))
    events = known.transactions.select(
        *KEYS,
        F.unix_micros("event_time").alias("_t"),
        # Exact: amounts have MONEY_SCALE digits after the point.
        (F.col("amount") * MINOR_UNITS).cast("bigint").alias("_minor"),
        delivered.alias("_asked"),
    )
    rows = events.where("_asked").select(*KEYS, "_t", "_minor")
    for feature in (TRANSACTION_AMOUNT, TRANSACTION_HOUR_OF_DAY, TRANSACTION_DAY_OF_WEEK):
        rows = rows.withColumn(feature.name, _of_the_transaction(feature))
    for entity in _entities():
        rows = _EntityPlan(entity, span).add(rows, events, known)
    return rows.select(*KEYS, *FEATURES)


def known_labels(known: Knowledge, moment: datetime) -> DataFrame:
    """Label of each transaction at a moment: `transaction_id, is_fraud, label_time`.

    The latest label with `label_time` not after the moment; of two labels with the same
    `label_time` the one that says fraud. Transactions without a mature label have no row.
    """
    versions = _label_versions(known)
    mature = versions.where(F.col("label_time") <= F.lit(moment))
    order = F.struct("label_time", "is_fraud")
    return mature.groupBy("transaction_id").agg(
        F.max_by("is_fraud", order).alias("is_fraud"), F.max("label_time").alias("label_time")
    )


def _label_versions(known: Knowledge) -> DataFrame:
    """All labels, with those that the policy implies: `transaction_id, is_fraud, label_time`."""
    given = known.labels.select("transaction_id", "is_fraud", "label_time")
    if known.policy.maturity_days is None:
        return given
    # Absence means genuine once the label would have come, unless one came before.
    mature_after = F.expr(f"INTERVAL {int(known.policy.maturity_days)} DAYS")
    first_given = given.groupBy("transaction_id").agg(F.min("label_time").alias("_first"))
    implied = (
        known.transactions.select(
            "transaction_id",
            F.lit(False).alias("is_fraud"),
            (F.col("event_time") + mature_after).alias("label_time"),
        )
        .join(first_given, "transaction_id", "left")
        .where("_first IS NULL OR _first > label_time")
        .drop("_first")
    )
    return given.unionByName(implied)


def _entities() -> list[Entity]:
    """Entities of the catalogue, in a fixed order."""
    return sorted({f.entity for f in FEATURES.values() if f.entity}, key=lambda e: e.name)


def _of_the_transaction(feature: Feature) -> Column:
    moment = F.col("event_time")
    if feature is TRANSACTION_AMOUNT:
        amount: Column = F.col("_minor").cast("double") / MINOR_UNITS
        return amount
    if feature is TRANSACTION_HOUR_OF_DAY:
        seconds = F.pmod(F.col("_t"), F.lit(MICROS_PER_DAY)).cast("double") / MICROS_PER_SECOND
        hours: Column = seconds / 3600
        return hours
    assert feature is TRANSACTION_DAY_OF_WEEK
    return F.weekday(moment).cast("double")


@dataclass(frozen=True)
class _Span:
    """Moments (microseconds since 1970, UTC) that asked transactions lie between."""

    first: int
    last: int

    @staticmethod
    def of(first: date, last: date, late_days: int) -> _Span:
        epoch = date(1970, 1, 1)
        start = (first - timedelta(days=late_days) - epoch).days
        end = (last + timedelta(days=1) - epoch).days
        return _Span(start * MICROS_PER_DAY, end * MICROS_PER_DAY)


@dataclass(frozen=True)
class _EntityPlan:
    """All features of one entity, from one sort of its changes."""

    entity: Entity
    span: _Span

    @property
    def features(self) -> list[Feature]:
        return [f for f in FEATURES.values() if f.entity == self.entity]

    def add(self, rows: DataFrame, events: DataFrame, known: Knowledge) -> DataFrame:
        """The rows with this entity's features as further columns."""
        payload = [name for name in rows.columns if name != self.entity.key]
        transactions = rows.select(
            F.col(self.entity.key),
            F.col("_t").alias("_time"),
            F.lit(TRANSACTION).alias("_phase"),
            F.col("transaction_id").alias("_order"),
            F.lit(ENTRY_NOW).alias("_slot"),
            F.col("_minor").alias("_money"),
            F.lit(0).cast("bigint").alias("_fraud"),
            F.struct(*payload).alias("_row"),
        )
        changes = self._changes(events, known).withColumn(
            "_row", F.lit(None).cast(transactions.schema["_row"].dataType)
        )
        in_order = Window.partitionBy(self.entity.key).orderBy("_time", "_phase", "_order")
        computed = (
            transactions.unionByName(changes)
            .select("*", *self._running(in_order))
            .where("_row IS NOT NULL")
        )
        return computed.select(
            self.entity.key,
            *(F.col("_row")[name].alias(name) for name in payload),
            *(self._value(feature).alias(feature.name) for feature in self.features),
        )

    def _changes(self, events: DataFrame, known: Knowledge) -> DataFrame:
        """Entries and exits: `key, _time, _phase, _order, _slot, _money, _fraud`."""
        reach = max(feature.lookback_days for feature in self.features) * MICROS_PER_DAY
        near = events.where(F.col("_t") > self.span.first - reach)
        parts = []
        for delay in sorted({w.delay_days for w in self._windows(labels=False)}):
            counted = near.withColumn("_from", F.col("_t") + delay * MICROS_PER_DAY)
            counted = counted.withColumn("_until", F.lit(None).cast("bigint"))
            counted = counted.withColumn("_fraud", F.lit(0).cast("bigint"))
            parts.append(self._steps(counted, delay, labels=False))
        if any(feature.function is Function.FRAUD_RATE for feature in self.features):
            versions = self._label_intervals(near, known)
            for delay in sorted({w.delay_days for w in self._windows(labels=True)}):
                entry = F.greatest(F.col("_t") + delay * MICROS_PER_DAY, F.col("_known"))
                judged = versions.withColumn("_from", entry)
                parts.append(self._steps(judged, delay, labels=True))
        return reduce(DataFrame.unionByName, parts)

    def _label_intervals(self, near: DataFrame, known: Knowledge) -> DataFrame:
        """Events once per label, with when it became known and when a newer one replaces it."""
        in_time = Window.partitionBy("transaction_id").orderBy("_known", "_fraud")
        versions = (
            _label_versions(known)
            .select(
                "transaction_id",
                F.col("is_fraud").cast("bigint").alias("_fraud"),
                F.unix_micros("label_time").alias("_known"),
            )
            .withColumn("_until", F.lead("_known").over(in_time))
        )
        return near.join(versions, "transaction_id")

    def _steps(self, counted: DataFrame, delay: int, *, labels: bool) -> DataFrame:
        """One entry row and one exit row per window for each counted event.

        `counted` has `_from` (entry), `_until` (replaced at, or null), `_t`, `_minor`, `_fraud`.
        """
        now = delay == 0 and not labels
        windows = [w for w in self._windows(labels=labels) if w.delay_days == delay]
        exits = []
        for window in windows:
            leaves = F.col("_t") + window.lookback_days * MICROS_PER_DAY
            # A label that comes after its window has passed enters and leaves at once.
            exit_time = F.greatest("_from", F.least(leaves, F.col("_until")))
            exits.append(_step(exit_time, CHANGE, _exit_slot(window, labels=labels)))
        slot = ENTRY_NOW if now else _entry_slot(delay, labels=labels)
        phase = TRANSACTION if now else CHANGE
        # Asked transactions enter by their own row when there is no delay.
        entry = F.when(~F.col("_asked") if now else F.lit(True), _step(F.col("_from"), phase, slot))
        exploded = counted.select(
            F.col(self.entity.key),
            F.col("transaction_id").alias("_order"),
            F.col("_minor").alias("_money"),
            "_fraud",
            F.explode(F.array_compact(F.array(entry, *exits))).alias("_step"),
        )
        return exploded.where(F.col("_step._time") <= self.span.last).select(
            self.entity.key,
            F.col("_step._time").alias("_time"),
            F.col("_step._phase").alias("_phase"),
            "_order",
            F.col("_step._slot").alias("_slot"),
            "_money",
            "_fraud",
        )

    def _windows(self, *, labels: bool) -> list[FeatureWindow]:
        """Distinct windows over events, or over labels, in a fixed order."""
        found = {
            f.window
            for f in self.features
            if f.window
            and f.function is not Function.SECONDS_SINCE_LAST
            and (f.function is Function.FRAUD_RATE) == labels
        }
        return sorted(found, key=lambda w: (w.delay_days, w.length_days))

    def _running(self, in_order: object) -> list[Column]:
        """Running sums over the sorted changes, and the time of the transaction before."""
        frame = in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow)  # type: ignore[attr-defined]
        before = in_order.rowsBetween(Window.unboundedPreceding, -1)  # type: ignore[attr-defined]
        happened = F.when(F.col("_phase") == TRANSACTION, F.col("_time"))
        sums = [F.last(happened, ignorenulls=True).over(before).alias("_previous")]
        for feature in self.features:
            if feature.window is None or feature.function is Function.SECONDS_SINCE_LAST:
                continue
            labels = feature.function is Function.FRAUD_RATE
            for name, value in _components(feature):
                signed = _signed(value, feature.window, labels=labels)
                sums.append(F.sum(signed).over(frame).alias(name))
        return _unique(sums)

    def _value(self, feature: Feature) -> Column:
        """A feature's value from the running sums."""
        assert feature.window is not None
        if feature.function is Function.SECONDS_SINCE_LAST:
            gap = F.col("_time") - F.col("_previous")
            inside = gap < feature.window.length_days * MICROS_PER_DAY
            return F.when(inside, gap.cast("double") / MICROS_PER_SECOND)
        names = [name for name, _ in _components(feature)]
        if feature.function is Function.COUNT:
            return F.col(names[0])
        number, total = F.col(names[0]), F.col(names[1]).cast("double")
        scale = MINOR_UNITS if feature.function is Function.MEAN else 1
        return F.when(number > 0, total / number / scale).otherwise(F.lit(feature.empty))


def _step(time: Column, phase: int, slot: str) -> Column:
    return F.struct(time.alias("_time"), F.lit(phase).alias("_phase"), F.lit(slot).alias("_slot"))


def _entry_slot(delay: int, *, labels: bool) -> str:
    return f"{'label' if labels else 'event'}_entry_{delay}"


def _exit_slot(window: FeatureWindow, *, labels: bool) -> str:
    return f"{'label' if labels else 'event'}_exit_{window.suffix}"


def _signed(value: Column, window: FeatureWindow, *, labels: bool) -> Column:
    """A change's effect on a window: its value on entry, minus that on exit, else nothing."""
    now = window.delay_days == 0 and not labels
    entry = ENTRY_NOW if now else _entry_slot(window.delay_days, labels=labels)
    slot = F.col("_slot")
    return (
        F.when(slot == entry, value)
        .when(slot == _exit_slot(window, labels=labels), -value)
        .otherwise(F.lit(0).cast("bigint"))
    )


def _components(feature: Feature) -> Sequence[tuple[str, Column]]:
    """Running sums a feature is made of, by name; those of the same name are the same sum."""
    assert feature.window is not None
    suffix = feature.window.suffix
    one = F.lit(1).cast("bigint")
    if feature.function is Function.FRAUD_RATE:
        return [(f"_judged_{suffix}", one), (f"_frauds_{suffix}", F.col("_fraud"))]
    counted = [(f"_count_{suffix}", one)]
    if feature.function is Function.MEAN:
        counted.append((f"_{feature.measure}_{suffix}", F.col("_money")))
    return counted


def _unique(columns: list[Column]) -> list[Column]:
    """Columns without those that compute the same sum again."""
    return list({str(column): column for column in columns}.values())
