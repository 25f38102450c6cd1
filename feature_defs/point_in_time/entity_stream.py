"""The stream of one entity's events, from which all its windows are computed in one pass.

One row per event, one per gap of a busy key, and two per window for a label that came later than
its window's delay (none where labels keep to it): at its moment it corrects what was counted
before, and when the event leaves the window the correction is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as SparkWindow
from pyspark.sql import functions as F

from feature_defs.feature import LABEL_FUNCTIONS, Condition, Entity, Feature, Window
from feature_defs.point_in_time.hot_keys import HotKeys
from feature_defs.point_in_time.known import VERSIONS, version_by
from feature_defs.point_in_time.stream_plan import (
    CORRECTS,
    LAST,
    LIMB_BITS,
    MICROS_PER_DAY,
    MINOR_UNITS,
    NO_EVENT,
    NO_GREATEST,
    NO_LEAST,
    NO_WINDOW,
    ROW,
    TIME,
    StreamPlan,
    Sum,
    greatest,
    least,
)
from feature_defs.point_in_time.window_stream import WindowStream

# What happens at a moment comes before the transactions of that moment, which are in order.
PHASE, ORDER, STEP, SLICE = "_phase", "_order", "_step", "_slice"
CHANGE, TRANSACTION = 0, 1


@dataclass(frozen=True)
class EntityStream:
    """All features of one entity; `first` and `last` bound the asked rows' moments."""

    entity: Entity
    features: tuple[Feature, ...]
    first: int
    last: int

    @property
    def plan(self) -> StreamPlan:
        """What the stream's columns are."""
        return StreamPlan(self.entity.keys, SLICE, self.features)

    @property
    def reads_labels(self) -> bool:
        """Whether events need their `_versions`."""
        return any(feature.function in LABEL_FUNCTIONS for feature in self.features)

    def near(self, events: DataFrame) -> DataFrame:
        """Events that windows of asked rows can reach; `events` has `_t`."""
        return events.where(F.col("_t").between(self.first - self.plan.reach + 1, self.last))

    def add(self, rows: DataFrame, others: DataFrame, hot: HotKeys) -> DataFrame:
        """The asked rows with this entity's features as further columns.

        `rows` are asked and `others` are not; both have the transactions' columns, `_t` and, for
        an entity that reads labels, `_versions`.
        """
        keys = self.entity.keys
        types = dict(rows.dtypes)
        carried = [name for name in rows.columns if name not in keys]
        near = self.near(others)
        asked = rows.withColumn(ROW, F.struct(*carried))
        nothing = F.lit(None).cast(asked.schema[ROW].dataType)
        events = asked.select(*near.columns, ROW).unionByName(near.withColumn(ROW, nothing))
        stream = hot.cut(self._changes(self._with_neighbours(events)), self.plan)
        in_order = stream.repartition(*self.plan.group).sortWithinPartitions(
            *self.plan.group, TIME, PHASE, ORDER
        )
        schema = [f"`{name}` {types[name]}" for name in (*keys, *carried)]
        schema += [f"`{feature.name}` {feature.type}" for feature in self.features]
        read = in_order.select(*self.plan.group, *self.plan.numbers, ROW)
        return read.mapInArrow(WindowStream(self.plan), ", ".join(schema))

    def _with_neighbours(self, events: DataFrame) -> DataFrame:
        """When the same value came before and comes after, for what is counted once; a shuffle."""
        for name in self.plan.distinct:
            alike = SparkWindow.partitionBy(*self.entity.keys, name).orderBy("_t", "transaction_id")
            events = events.withColumns(
                {
                    f"_since_{name}": F.col("_t") - F.lag("_t").over(alike),
                    f"_until_{name}": F.lead("_t").over(alike) - F.col("_t"),
                }
            )
        return events

    def _changes(self, events: DataFrame) -> DataFrame:
        """The stream's rows: the events, and what late labels correct."""
        steps = [self._corrections(window) for window in self.plan.corrected]
        # Without labels there is one step per event, and nothing to explode.
        step = F.explode(F.concat(F.array(_event_step()), *steps)) if steps else _event_step()
        events = events.withColumn(STEP, step)
        time, corrects = F.col(STEP)["time"], F.col(STEP)["corrects"]
        is_event = corrects == NO_WINDOW
        sums = {summed.column: self._added(summed, is_event) for summed in self.plan.sums}
        lowest, highest = (
            {column(m): F.when(is_event, _minor(m)).otherwise(nothing) for m in measures}
            for column, measures, nothing in (
                (least, self.plan.minima, NO_LEAST),
                (greatest, self.plan.maxima, NO_GREATEST),
            )
        )
        numbers = {
            TIME: time,
            CORRECTS: corrects,
            LAST: F.when(is_event, time).otherwise(NO_EVENT),
            **sums,
            **lowest,
            **highest,
        }
        return events.select(
            *self.entity.keys,
            *(column.alias(name) for name, column in numbers.items()),
            F.when(is_event, TRANSACTION).otherwise(CHANGE).alias(PHASE),
            F.col("transaction_id").alias(ORDER),
            F.when(is_event, F.col(ROW)).alias(ROW),
        )

    def _added(self, summed: Sum, is_event: Column) -> Column:
        """What a row adds to a sum."""
        if summed.what in ("judged", "frauds"):
            return self._added_label(summed, is_event)
        return F.when(is_event & _meets(summed.where), _of_an_event(summed)).otherwise(_whole(0))

    def _added_label(self, summed: Sum, is_event: Column) -> Column:
        assert summed.num_days is not None
        known = version_by(_later(summed.num_days))
        at_first, change = {
            "judged": (known.isNotNull().cast("bigint"), F.col(STEP)["judged"]),
            "frauds": (F.coalesce(known["fraud"], _whole(0)), F.col(STEP)["fraud"]),
        }[summed.what]
        windows = enumerate(self.plan.corrected)
        places = [place for place, window in windows if window.delay_days == summed.num_days]
        mine = F.col(STEP)["corrects"].isin(places)
        return F.when(is_event, at_first).when(mine, change).otherwise(_whole(0))

    def _corrections(self, window: Window) -> Column:
        """Two steps for each label that came after the window's delay, while it held the event."""
        corrects = F.lit(self.plan.corrected.index(window))
        leaves, entered = _later(window.lookback_days), _later(window.delay_days)
        at_first = version_by(entered)
        late = F.filter(VERSIONS, lambda version: version["known"] > entered)

        def steps(version: Column, number: Column) -> Column:
            before = F.when(number == 0, at_first).otherwise(F.get(late, number - 1))
            judged = before.isNull().cast("bigint")
            fraud = version["fraud"] - F.coalesce(before["fraud"], _whole(0))
            return F.array(
                _step(version["known"], corrects, judged, fraud),
                _step(leaves, corrects, -judged, -fraud),
            )

        # What comes after the event has left changes nothing, nor what no asked row comes after.
        end = F.least(leaves, _whole(self.last + 1))
        return F.flatten(
            F.filter(F.transform(late, steps), lambda pair: F.get(pair, 0)["time"] < end)
        )


def _of_an_event(summed: Sum) -> Column:
    """What an event adds to a sum."""
    if summed.what == "events":
        return _whole(1)
    assert summed.measure is not None
    if summed.what in ("begun", "ended"):
        assert summed.num_days is not None
        gap = F.col(f"_{'since' if summed.what == 'begun' else 'until'}_{summed.measure}")
        return (gap.isNull() | (gap >= summed.num_days * MICROS_PER_DAY)).cast("bigint")
    amount = _minor(summed.measure)
    high = F.shiftright(amount, LIMB_BITS)
    low = amount.bitwiseAND(F.lit((1 << LIMB_BITS) - 1))
    added: dict[str, Column] = {
        "money": amount,
        "square_high": high * high,
        "square_middle": high * low * 2,
        "square_low": low * low,
    }
    return added[summed.what]


def _minor(measure: str) -> Column:
    """An amount in integer minor units, exactly: amounts have MONEY_SCALE digits."""
    minor: Column = (F.col(measure) * MINOR_UNITS).cast("bigint")
    return minor


def _meets(where: Condition | None) -> Column:
    """Whether an event counts; what is null meets no condition."""
    if where is None:
        return F.lit(True)
    value = F.lit(where.value if isinstance(where.value, str) else Decimal(where.value))
    column = F.col(where.column)
    met = {
        "<": column < value,
        "<=": column <= value,
        ">": column > value,
        ">=": column >= value,
        "==": column == value,
        "!=": column != value,
    }[where.operator]
    return F.coalesce(met, F.lit(False))


def _whole(number: int) -> Column:
    return F.lit(number).cast("bigint")


def _later(num_days: int) -> Column:
    """So many days after an event."""
    return F.col("_t") + num_days * MICROS_PER_DAY


def _step(time: Column, corrects: Column, judged: Column, fraud: Column) -> Column:
    return F.struct(
        time.alias("time"), corrects.alias("corrects"), judged.alias("judged"), fraud.alias("fraud")
    )


def _event_step() -> Column:
    return _step(F.col("_t"), F.lit(NO_WINDOW), _whole(0), _whole(0))
