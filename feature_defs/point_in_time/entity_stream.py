"""Builds the stream of one entity, from which one pass computes all its windows.

The stream has one row per event, one row per gap of a hot key (`hot_keys.py`), and the corrections
of late labels (`label_corrections.py`).
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
from feature_defs.point_in_time.label_corrections import LabelCorrections
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from feature_defs.point_in_time.stream_plan import (
    CORRECTED_WINDOW,
    GROUP_START,
    IS_OUTPUT,
    LAST_EVENT,
    LIMB_BITS,
    MICROS_PER_DAY,
    MINOR_UNITS,
    NO_EVENT,
    NO_MAX,
    NO_MIN,
    NO_WINDOW,
    TIME,
    StreamPlan,
    Sum,
    max_column,
    min_column,
)
from feature_defs.point_in_time.window_stream import WindowStream

PHASE, SLICE, HASH, ROW, VALUES = "_phase", "_slice", "_hash", "_row", "_values"
# If their times are equal, label corrections come before transactions.
CHANGE, TRANSACTION = 0, 1


@dataclass(frozen=True)
class EntityStream:
    """The features of one entity; the times of its output rows are from `first` to `last`."""

    entity: Entity
    features: tuple[Feature, ...]
    inputs: FeatureInputs
    first: int
    last: int

    @property
    def plan(self) -> StreamPlan:
        """Return the columns of the stream."""
        return StreamPlan(self.entity.keys, SLICE, self.features)

    @property
    def reads_labels(self) -> bool:
        """Return whether a feature of this entity reads labels."""
        return any(feature.function in LABEL_FUNCTIONS for feature in self.features)

    def within_lookback(self, events: DataFrame) -> DataFrame:
        """Return the events that windows of output rows can contain; `events` has `_t`."""
        return events.where(
            F.col("_t").between(self.first - self.plan.lookback_micros + 1, self.last)
        )

    def add_features(
        self, rows: DataFrame, output_rows: DataFrame, other_rows: DataFrame, hot: HotKeys
    ) -> DataFrame:
        """Return `rows`, the output rows, with this entity's features as further columns.

        `output_rows` are the same rows without the features of other entities. `other_rows` are
        read by windows, but get no features. All have the transactions' columns and `_t`.
        """
        keys = ("transaction_id", *self.entity.keys)
        # Only output rows carry the other columns, so all other rows are cheap to shuffle and sort.
        carried = [name for name in rows.columns if name not in (*keys, "_t")]
        inputs_only = self.within_lookback(other_rows)
        outputs = rows.withColumn(ROW, F.struct(*carried))
        no_row = F.lit(None).cast(outputs.schema[ROW].dataType)

        def events(outputs: DataFrame) -> DataFrame:
            both = outputs.select(*inputs_only.columns, ROW).unionByName(
                inputs_only.withColumn(ROW, no_row)
            )
            return self._with_distances(both)

        def events_without_features() -> DataFrame:
            return events(output_rows.withColumn(ROW, no_row))

        stream = hot.split(events(outputs), events_without_features, self._stream, self.plan)
        values = _window_values(self.plan)(*self.plan.input_columns)
        return (
            self._sorted(stream)
            .select(*keys, F.col(TIME).alias("_t"), ROW, values.alias(VALUES))
            .where(F.col(ROW).isNotNull())
            .select(*keys, "_t", f"{ROW}.*", f"{VALUES}.*")
        )

    def _sorted(self, stream: DataFrame) -> DataFrame:
        """Sort the stream by group and time, and mark the start of each group; one shuffle."""
        # The order of groups does not matter, and a hash is faster to compare than keys.
        hashed = stream.withColumn(HASH, F.xxhash64(*self.plan.group_columns))
        in_order = SparkWindow.partitionBy(HASH, *self.plan.group_columns).orderBy(
            TIME, PHASE, "transaction_id"
        )
        return hashed.withColumns(
            {GROUP_START: F.row_number().over(in_order) == 1, IS_OUTPUT: F.col(ROW).isNotNull()}
        )

    def _with_distances(self, events: DataFrame) -> DataFrame:
        """Add the time since the last event with the same value, and until the next one.

        Distinct counts need both times. Each column takes one shuffle.
        """
        for name in self.plan.distinct_columns:
            same_value = SparkWindow.partitionBy(*self.entity.keys, name).orderBy(
                "_t", "transaction_id"
            )
            events = events.withColumns(
                {
                    f"_since_{name}": F.col("_t") - F.lag("_t").over(same_value),
                    f"_until_{name}": F.lead("_t").over(same_value) - F.col("_t"),
                }
            )
        return events

    def _stream(self, events: DataFrame) -> DataFrame:
        """Return the rows of the stream: the events and the corrections of their labels."""
        rows = self._labels.add_rows(events) if self.reads_labels else events
        return rows.select(*self._columns)

    @cached_property
    def _labels(self) -> LabelCorrections:
        return LabelCorrections(self.inputs, self.plan.label_windows, self.last)

    @cached_property
    def _columns(self) -> tuple[str | Column, ...]:
        """Return the columns of the stream; cached, because they take many calls to Spark."""
        labels = self._labels
        time, corrected_window, is_event = F.col("_t"), F.lit(NO_WINDOW), F.lit(True)
        if self.reads_labels:
            time, is_event = labels.time, labels.is_event
            corrected_window = labels.corrected_window

        def added(summed: Sum) -> Column:
            if summed.quantity in ("labelled", "frauds"):
                return labels.added(summed)
            counts = is_event & _matches(summed.where)
            return F.when(counts, _event_value(summed)).otherwise(F.lit(0).cast("bigint"))

        minima, maxima = (
            {column(m): F.when(is_event, _minor_units(m)).otherwise(no_value) for m in measures}
            for column, measures, no_value in (
                (min_column, self.plan.min_measures, NO_MIN),
                (max_column, self.plan.max_measures, NO_MAX),
            )
        )
        integers = {
            TIME: time,
            CORRECTED_WINDOW: corrected_window,
            LAST_EVENT: F.when(is_event, time).otherwise(NO_EVENT),
            **{summed.column: added(summed) for summed in self.plan.sums},
            **minima,
            **maxima,
        }
        return (
            "transaction_id",
            *self.entity.keys,
            *(column.alias(name) for name, column in integers.items()),
            F.when(is_event, TRANSACTION).otherwise(CHANGE).alias(PHASE),
            F.when(is_event, F.col(ROW)).alias(ROW),
        )


def _window_values(plan: StreamPlan) -> Callable[..., Column]:
    """Return `WindowStream` as a Spark function of the stream's input columns."""

    def values(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.DataFrame]:
        yield from WindowStream(plan)(batches)

    schema = ", ".join(f"`{feature.name}` {feature.type}" for feature in plan.features)
    # Values depend on earlier rows, so Spark must not move a filter below this function.
    over_stream: Callable[..., Column] = pandas_udf(  # type: ignore[call-overload]
        values, f"struct<{schema}>"
    ).asNondeterministic()
    return over_stream


def _event_value(summed: Sum) -> Column:
    """Return what an event adds to a sum."""
    if summed.quantity == "events":
        return F.lit(1).cast("bigint")
    assert summed.measure is not None
    if summed.quantity in ("entering", "leaving"):
        assert summed.num_days is not None
        side = "since" if summed.quantity == "entering" else "until"
        gap = F.col(f"_{side}_{summed.measure}")
        return (gap.isNull() | (gap >= summed.num_days * MICROS_PER_DAY)).cast("bigint")
    amount = _minor_units(summed.measure)
    high = F.shiftright(amount, LIMB_BITS)
    low = amount.bitwiseAND(F.lit((1 << LIMB_BITS) - 1))
    added: dict[str, Column] = {
        "money": amount,
        "square_high": high * high,
        "square_middle": high * low * 2,
        "square_low": low * low,
    }
    return added[summed.quantity]


def _minor_units(measure: str) -> Column:
    """Return an amount in integer minor units; exact, as amounts have MONEY_SCALE decimals."""
    minor: Column = (F.col(measure) * MINOR_UNITS).cast("bigint")
    return minor


def _matches(where: Condition | None) -> Column:
    """Return whether an event matches a condition; a null does not match."""
    if where is None:
        return F.lit(True)
    value = F.lit(where.value if isinstance(where.value, str) else Decimal(where.value))
    column = F.col(where.column)
    matches = {
        "<": column < value,
        "<=": column <= value,
        ">": column > value,
        ">=": column >= value,
        "==": column == value,
        "!=": column != value,
    }[where.operator]
    return F.coalesce(matches, F.lit(False))
