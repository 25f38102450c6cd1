"""The stream of one entity's events, from which all its windows are computed in one pass.

One row per event, one per gap of a busy key, and two per window for a label that came later than
its window's delay (none where labels keep to it): at its moment it corrects what was counted
before, and when the event leaves the window the correction is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_defs.catalogue import FEATURES
from feature_defs.definitions import Entity, Feature, Function, Window
from feature_defs.point_in_time.hot_keys import SLICE, HotKeys
from feature_defs.point_in_time.known import VERSIONS
from feature_defs.point_in_time.window_stream import (
    CORRECTS,
    EVENTS,
    LAST,
    MICROS_PER_DAY,
    MONEY,
    NO_EVENT,
    NO_WINDOW,
    ROW,
    TIME,
    StreamPlan,
    WindowStream,
    frauds,
    judged,
)

# What happens at a moment comes before the transactions of that moment, which are in order.
PHASE, ORDER, STEP = "_phase", "_order", "_step"
CHANGE, TRANSACTION = 0, 1


@dataclass(frozen=True)
class EntityStream:
    """All features of one entity; `first` and `last` bound the asked rows' moments."""

    entity: Entity
    first: int
    last: int

    @property
    def features(self) -> tuple[Feature, ...]:
        """Of this entity, in the catalogue's order."""
        return tuple(f for f in FEATURES.values() if f.entity == self.entity)

    @property
    def plan(self) -> StreamPlan:
        """What the stream's columns are."""
        return StreamPlan((self.entity.key, SLICE), self.features)

    @property
    def reads_labels(self) -> bool:
        """Whether events need their `_versions`."""
        return any(f.function is Function.FRAUD_RATE for f in self.features)

    def add(self, rows: DataFrame, others: DataFrame) -> DataFrame:
        """The asked rows with this entity's features as further columns.

        `rows` are asked and `others` are not; both have the key, `transaction_id`, `_t`, `_minor`
        and, for an entity that reads labels, `_versions`.
        """
        near = others.where(F.col("_t").between(self.first - self.plan.reach + 1, self.last))
        key_and_time = (self.entity.key, "_t")
        hot = HotKeys.find(
            rows.select(*key_and_time).unionAll(near.select(*key_and_time)), self.entity.key
        )
        carried = [name for name in rows.columns if name != self.entity.key]
        types = dict(rows.dtypes)
        asked = self._changes(rows, F.struct(*carried))
        nothing = F.lit(None).cast(asked.schema[ROW].dataType)
        stream = hot.cut(asked.unionByName(self._changes(near, nothing)), self.plan.sums)
        in_order = stream.repartition(self.entity.key, SLICE).sortWithinPartitions(
            self.entity.key, SLICE, TIME, PHASE, ORDER
        )
        read = (self.entity.key, SLICE, TIME, CORRECTS, LAST, *self.plan.sums, ROW)
        schema = [f"`{name}` {types[name]}" for name in (self.entity.key, *carried)]
        schema += [f"`{feature.name}` {feature.type}" for feature in self.features]
        return in_order.select(*read).mapInArrow(WindowStream(self.plan), ", ".join(schema))

    def _changes(self, events: DataFrame, row: Column) -> DataFrame:
        """The stream's rows that events make; `row` is what an asked one carries along."""
        if self.plan.corrected:
            late = [self._corrections(window) for window in self.plan.corrected]
            events = events.withColumn(STEP, F.explode(F.concat(F.array(_event_step()), *late)))
        else:
            events = events.withColumn(STEP, _event_step())
        step = F.col(STEP)
        is_event = step["corrects"] == NO_WINDOW
        sums = {EVENTS: F.lit(1).cast("bigint"), MONEY: F.col("_minor")}
        labels = {}
        for delay in sorted({window.delay_days for window in self.plan.corrected}):
            known = _version_at(delay)
            places = [n for n, w in enumerate(self.plan.corrected) if w.delay_days == delay]
            corrects = step["corrects"].isin(places)
            for name, at_first, change in (
                (judged(delay), known.isNotNull().cast("bigint"), step["judged"]),
                (frauds(delay), F.coalesce(known["fraud"], _zero()), step["fraud"]),
            ):
                labels[name] = F.when(is_event, at_first).when(corrects, change).otherwise(_zero())
        return events.select(
            self.entity.key,
            step["time"].alias(TIME),
            F.when(is_event, TRANSACTION).otherwise(CHANGE).alias(PHASE),
            F.col("transaction_id").alias(ORDER),
            step["corrects"].alias(CORRECTS),
            F.when(is_event, step["time"]).otherwise(NO_EVENT).alias(LAST),
            *(
                F.when(is_event, sums[n]).otherwise(_zero()).alias(n)
                for n in self.plan.sums
                if n in sums
            ),
            *(column.alias(name) for name, column in labels.items()),
            F.when(is_event, row).alias(ROW),
        )

    def _corrections(self, window: Window) -> Column:
        """Two steps for each label that came after the window's delay, while it held the event."""
        corrects = F.lit(self.plan.corrected.index(window))
        leaves = F.col("_t") + window.lookback_days * MICROS_PER_DAY
        entered = F.col("_t") + window.delay_days * MICROS_PER_DAY
        at_first = _version_at(window.delay_days)
        late = F.filter(VERSIONS, lambda version: version["known"] > entered)

        def steps(version: Column, number: Column) -> Column:
            before = F.when(number == 0, at_first).otherwise(F.get(late, number - 1))
            more_judged = before.isNull().cast("bigint")
            more_frauds = version["fraud"] - F.coalesce(before["fraud"], _zero())
            return F.array(
                _step(version["known"], corrects, more_judged, more_frauds),
                _step(leaves, corrects, -more_judged, -more_frauds),
            )

        # What comes after the event has left changes nothing, nor what no asked row is after.
        last = F.least(leaves, F.lit(self.last + 1))
        seen = F.filter(F.transform(late, steps), lambda pair: F.get(pair, 0)["time"] < last)
        return F.flatten(seen)


def _zero() -> Column:
    return F.lit(0).cast("bigint")


def _version_at(delay_days: int) -> Column:
    """What was known of an event so many days after it; null when nothing was."""
    entered = F.col("_t") + delay_days * MICROS_PER_DAY
    known = F.filter(VERSIONS, lambda version: version["known"] <= entered)
    return F.get(known, F.size(known) - 1)


def _step(time: Column, corrects: Column, judged: Column, fraud: Column) -> Column:
    return F.struct(
        time.alias("time"), corrects.alias("corrects"), judged.alias("judged"), fraud.alias("fraud")
    )


def _event_step() -> Column:
    return _step(F.col("_t"), F.lit(NO_WINDOW), _zero(), _zero())
