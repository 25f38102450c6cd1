"""The stream of one entity's events, from which all its windows are computed in one pass.

One row per event, one per gap of a busy key, and what labels change beside (`label_changes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as SparkWindow
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from feature_defs.feature import LABEL_FUNCTIONS, Condition, Entity, Feature
from feature_defs.point_in_time.hot_keys import HotKeys
from feature_defs.point_in_time.label_corrections import LabelChanges
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from feature_defs.point_in_time.stream_plan import (
    ASKED,
    CORRECTS,
    LAST,
    LIMB_BITS,
    MICROS_PER_DAY,
    MINOR_UNITS,
    NO_EVENT,
    NO_GREATEST,
    NO_LEAST,
    NO_WINDOW,
    START,
    TIME,
    StreamPlan,
    Sum,
    greatest,
    least,
)
from feature_defs.point_in_time.window_stream import WindowStream

# What happens at a moment comes before the transactions of that moment, which are in order.
PHASE, SLICE, HASH, ROW, FOUND = "_phase", "_slice", "_hash", "_row", "_found"
CHANGE, TRANSACTION = 0, 1


@dataclass(frozen=True)
class EntityStream:
    """All features of one entity; `first` and `last` bound the asked rows' moments."""

    entity: Entity
    features: tuple[Feature, ...]
    known: FeatureInputs
    first: int
    last: int

    @property
    def plan(self) -> StreamPlan:
        """What the stream's columns are."""
        return StreamPlan(self.entity.keys, SLICE, self.features)

    @property
    def reads_labels(self) -> bool:
        """Whether a feature is made from labels."""
        return any(feature.function in LABEL_FUNCTIONS for feature in self.features)

    def near(self, events: DataFrame) -> DataFrame:
        """Events that windows of asked rows can reach; `events` has `_t`."""
        return events.where(F.col("_t").between(self.first - self.plan.reach + 1, self.last))

    def add(self, rows: DataFrame, given: DataFrame, others: DataFrame, hot: HotKeys) -> DataFrame:
        """The asked rows with this entity's features as further columns.

        `rows` are asked and `others` are not; both have the transactions' columns and `_t`. `given`
        are the asked rows without what other entities have added to them.
        """
        kept = ("transaction_id", *self.entity.keys)
        # Only asked rows carry the rest, so that the others are light to move and to sort.
        carried = [name for name in rows.columns if name not in (*kept, "_t")]
        near = self.near(others)
        asked = rows.withColumn(ROW, F.struct(*carried))
        nothing = F.lit(None).cast(asked.schema[ROW].dataType)

        def events(asked: DataFrame) -> DataFrame:
            together = asked.select(*near.columns, ROW).unionByName(near.withColumn(ROW, nothing))
            return self._with_neighbours(together)

        def bare() -> DataFrame:
            return events(given.withColumn(ROW, nothing))

        stream = hot.cut(events(asked), bare, self._stream, self.plan)
        found = _values(self.plan)(*self.plan.read)
        return (
            self._in_order(stream)
            .select(*kept, F.col(TIME).alias("_t"), ROW, found.alias(FOUND))
            .where(F.col(ROW).isNotNull())
            .select(*kept, "_t", f"{ROW}.*", f"{FOUND}.*")
        )

    def _in_order(self, stream: DataFrame) -> DataFrame:
        """Groups one after the other, each in order, and where each starts; a shuffle."""
        # Groups lie in any order, and whole numbers are compared faster than keys.
        hashed = stream.withColumn(HASH, F.xxhash64(*self.plan.group))
        in_order = SparkWindow.partitionBy(HASH, *self.plan.group).orderBy(
            TIME, PHASE, "transaction_id"
        )
        return hashed.withColumns(
            {START: F.row_number().over(in_order) == 1, ASKED: F.col(ROW).isNotNull()}
        )

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

    def _stream(self, events: DataFrame) -> DataFrame:
        """The stream's rows: the events, and what their labels change."""
        return (self._labels.steps(events) if self.reads_labels else events).select(*self._columns)

    @cached_property
    def _labels(self) -> LabelChanges:
        return LabelChanges(self.known, self.plan.corrected, self.last)

    @cached_property
    def _columns(self) -> tuple[str | Column, ...]:
        """The stream's columns; made once, for each is many calls to Spark."""
        labels = self._labels
        time, corrects, is_event = F.col("_t"), F.lit(NO_WINDOW), F.lit(True)
        if self.reads_labels:
            time, corrects, is_event = labels.time, labels.corrects, labels.is_event

        def added(summed: Sum) -> Column:
            if summed.what in ("judged", "frauds"):
                return labels.added(summed)
            counts = is_event & _meets(summed.where)
            return F.when(counts, _of_an_event(summed)).otherwise(F.lit(0).cast("bigint"))

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
            **{summed.column: added(summed) for summed in self.plan.sums},
            **lowest,
            **highest,
        }
        return (
            "transaction_id",
            *self.entity.keys,
            *(column.alias(name) for name, column in numbers.items()),
            F.when(is_event, TRANSACTION).otherwise(CHANGE).alias(PHASE),
            F.when(is_event, F.col(ROW)).alias(ROW),
        )


def _values(plan: StreamPlan) -> Callable[..., Column]:
    """The pass over the stream as a function of its columns."""

    def values(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.DataFrame]:
        yield from WindowStream(plan)(batches)

    schema = ", ".join(f"`{feature.name}` {feature.type}" for feature in plan.features)
    # Each row's values come of the rows before it, so no filter may go first.
    over_stream: Callable[..., Column] = pandas_udf(  # type: ignore[call-overload]
        values, f"struct<{schema}>"
    ).asNondeterministic()
    return over_stream


def _of_an_event(summed: Sum) -> Column:
    """What an event adds to a sum."""
    if summed.what == "events":
        return F.lit(1).cast("bigint")
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
