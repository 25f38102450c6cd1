"""Builds the stream of one entity, from which one pass computes all its windows.

The stream has one row per event, one row per gap of a hot key (`hot_keys.py`), and the corrections
of late labels (`label_corrections.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, reduce
from operator import or_

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import Window as SparkWindow
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from feature_defs.attributes import MERCHANT_PLACE
from feature_defs.feature import LABEL_FUNCTIONS, Condition, Entity, Feature
from feature_defs.point_in_time.hot_keys import HotKeys
from feature_defs.point_in_time.label_corrections import LabelCorrections
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from feature_defs.point_in_time.stream_plan import (
    ABSENT,
    CORRECTED_WINDOW,
    DEGREE_UNITS,
    GROUP_START,
    IS_OUTPUT,
    LAST_EVENT,
    LIMB_BITS,
    MICROS_PER_DAY,
    MICROS_PER_SECOND,
    NO_EVENT,
    NO_MAX,
    NO_MIN,
    NO_WINDOW,
    ROW,
    TIME,
    EventValue,
    StreamPlan,
    Sum,
    max_column,
    min_column,
)
from feature_defs.point_in_time.window_stream import WindowStream
from feature_defs.sources import HAS_TIME_OF_DAY, MONEY_SCALE, NUMBER_DIGITS

PHASE, SLICE, HASH, VALUES = "_phase", "_slice", "_hash", "_values"
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
        computed = (
            self._sorted(self._without_null_groups(stream))
            .select(*keys, F.col(TIME).alias("_t"), ROW, values.alias(VALUES))
            .where(F.col(ROW).isNotNull())
        )
        if self.entity.nullable_keys:
            computed = computed.withColumn(VALUES, F.when(~self._has_null_key, F.col(VALUES)))
        return computed.select(*keys, "_t", f"{ROW}.*", f"{VALUES}.*")

    def find_hot_keys(self, events: DataFrame) -> HotKeys:
        """Return the keys that are split; `events` has `_t`."""
        if not self.plan.can_be_split:
            return HotKeys(self.entity.keys, {})
        known = self.within_lookback(events)
        if self.entity.nullable_keys:
            known = known.where(~self._has_null_key)
        return HotKeys.find(known, self.entity.keys, self.plan.lookback_micros)

    @property
    def _has_null_key(self) -> Column:
        """Return whether a row has no such entity; its features are null."""
        return reduce(or_, (F.col(key).isNull() for key in self.entity.nullable_keys), F.lit(False))

    def _without_null_groups(self, stream: DataFrame) -> DataFrame:
        """Give each row without an entity a group of its own: there may be very many."""
        if not self.entity.nullable_keys:
            return stream
        group = F.when(self._has_null_key, F.hash("transaction_id")).otherwise(F.col(SLICE))
        return stream.withColumn(SLICE, group)

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
        groups: list[str | Column] = [*self.entity.keys]
        if self.entity.nullable_keys:
            groups.append(F.when(self._has_null_key, F.hash("transaction_id")))
        for name in self.plan.distinct_columns:
            same_value = SparkWindow.partitionBy(*groups, name).orderBy("_t", "transaction_id")
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
            value = F.when(counts, self._event_value(summed))
            return F.coalesce(value, F.lit(0).cast("bigint"))

        minima, maxima = (
            {
                column(m): F.coalesce(F.when(is_event, self._units(m)), F.lit(no_value))
                for m in measures
            }
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
            **{
                value.column: F.coalesce(F.when(is_event, self._single_value(value)), F.lit(ABSENT))
                for value in self.plan.event_values
            },
        }
        return (
            "transaction_id",
            *self.entity.keys,
            *(column.alias(name) for name, column in integers.items()),
            F.when(is_event, TRANSACTION).otherwise(CHANGE).alias(PHASE),
            F.when(is_event, F.col(ROW)).alias(ROW),
        )

    def _event_value(self, summed: Sum) -> Column:
        """Return what an event adds to a sum; null adds nothing."""
        if summed.quantity == "events":
            return F.lit(1).cast("bigint")
        assert summed.measure is not None
        if summed.quantity in ("entering", "leaving"):
            assert summed.seconds is not None
            side = "since" if summed.quantity == "entering" else "until"
            gap = F.col(f"_{side}_{summed.measure}")
            counts = gap.isNull() | (gap >= summed.seconds * MICROS_PER_SECOND)
            return (F.col(summed.measure).isNotNull() & counts).cast("bigint")
        units = self._units(summed.measure)
        if summed.quantity == "present":
            return units.isNotNull().cast("bigint")
        if summed.quantity == "number":
            return units
        return _square_parts(units)[summed.quantity]

    def _single_value(self, value: EventValue) -> Column:
        """Return a value of an event as an integer, or null."""
        if value.quantity == "time_of_day":
            time_of_day = F.pmod(F.col("_t"), F.lit(MICROS_PER_DAY))
            if HAS_TIME_OF_DAY not in self.inputs.transactions.columns:
                return time_of_day
            return F.when(has_time_of_day(), time_of_day)
        if value.quantity in ("latitude", "longitude"):
            return _place_units(value.quantity)
        assert value.measure is not None
        if value.quantity == "hash":
            text = F.col(value.measure)
            return F.when(text.isNotNull(), F.xxhash64(text))
        return self._units(value.measure)

    def _units(self, measure: str) -> Column:
        """Return a measure in integer units, exactly for amounts; null if it has no valid value."""
        scale = self.plan.scales[measure]
        units = F.col(measure) * 10**scale
        if scale != MONEY_SCALE:
            is_valid = F.abs(F.col(measure)) < 10**NUMBER_DIGITS
            units = F.when(is_valid, F.rint(units))
        integers: Column = units.cast("bigint")
        return integers


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


def _square_parts(units: Column) -> dict[str, Column]:
    """Return the parts of a square by name; part `n` counts 2**(n * LIMB_BITS)."""
    limb = F.lit((1 << LIMB_BITS) - 1)
    high = F.shiftright(units, 2 * LIMB_BITS)
    middle, low = F.shiftright(units, LIMB_BITS).bitwiseAND(limb), units.bitwiseAND(limb)
    parts = (low * low, middle * low * 2, high * low * 2 + middle * middle, high * middle * 2)
    return {f"square_{power}": part for power, part in enumerate((*parts, high * high))}


def _place_units(coordinate: str) -> Column:
    """Return a coordinate of the merchant in integer units; null if the place is not valid."""
    latitude, longitude = map(F.col, MERCHANT_PLACE)
    is_place = (F.abs(latitude) <= 90) & (F.abs(longitude) <= 180)
    degrees = latitude if coordinate == "latitude" else longitude
    return F.when(is_place, F.rint(degrees * DEGREE_UNITS).cast("bigint"))


def has_time_of_day() -> Column:
    """Return whether the hour of a transaction is known; `transactions` has the column."""
    return F.coalesce(F.col(HAS_TIME_OF_DAY), F.lit(True))


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
