"""Compiles feature definitions to one Spark plan, point-in-time correct for every transaction.

The events of each entity are sorted by key and time once. One pass over the sorted stream computes
every window of every transaction (`window_stream.py`): the sum over a window is the difference of
a running sum at its two ends. This has four advantages:

- Money is summed in integer minor units, so results are bit-identical for any order and any
  partitioning of the rows.
- The sort has one row per event, whatever the number of windows. A sliding frame (`rangeBetween`)
  recomputes the window of every row, which takes many times as long for a busy merchant.
- A hot key is split into slices that are processed separately (`hot_keys.py`).
- Labels that arrive within the delay of their windows cost nothing extra. Later labels are
  corrections at their own `label_time` (`label_corrections.py`).

Shuffles: one per entity, and one to join labels to their transactions. Before the plan runs, one
job per entity counts the events of its keys in a sample. `make bench-features` measures the cost;
`feature_defs/README.md` lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from feature_defs.attributes import HOME_PLACE, MERCHANT_PLACE
from feature_defs.catalogue import FEATURES, available
from feature_defs.feature import Entity, Feature, Function, Kind
from feature_defs.point_in_time.earlier_events import EARTH_RADIUS_KM, METRES_PER_KM
from feature_defs.point_in_time.entity_stream import EntityStream, has_time_of_day
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from feature_defs.point_in_time.stream_plan import MICROS_PER_DAY, MICROS_PER_SECOND
from feature_defs.sources import HAS_TIME_OF_DAY, KEYS, NUMBER_DIGITS
from feature_defs.transaction import (
    TRANSACTION_AMOUNT,
    TRANSACTION_DAY_OF_WEEK,
    TRANSACTION_HOUR_OF_DAY,
    TRANSACTION_KILOMETRES_FROM_HOME,
)


def compile_features(
    inputs: FeatureInputs,
    first: date,
    last: date,
    late_days: int,
    features: Mapping[str, Feature] = FEATURES,
) -> DataFrame:
    """Return the features of the transactions delivered from `first` to `last`.

    Both are business dates, included. A late-arriving row may have happened up to `late_days`
    before `first`; its windows are relative to its own `event_time`. The result has the columns
    `KEYS` and one column per feature, null (never NaN) where a definition leaves the value over an
    empty window undefined. Features whose attributes the transactions do not have are left out.
    """
    features = available(features, dict(inputs.transactions.dtypes))
    begin = _day_micros(first - timedelta(days=late_days))
    end = _day_micros(last) + MICROS_PER_DAY - 1
    events = _events(inputs, features)
    is_output = F.col("business_date").between(F.lit(first), F.lit(last))
    output_rows, other_rows = events.where(is_output), events.where(~is_output)
    streams = [
        EntityStream(entity, of_entity, inputs, begin, end)
        for entity, of_entity in _by_entity(features).items()
    ]
    rows = output_rows
    # Streams that read labels come first: they need one more shuffle, and rows have few columns
    # here.
    for stream in sorted(streams, key=lambda stream: not stream.reads_labels):
        # Counting before any stream is computed avoids computing a stream twice.
        hot = stream.find_hot_keys(events)
        rows = stream.add_features(rows, output_rows, other_rows, hot)
    of_transaction = [f for f in features.values() if f.window is None and not f.parts]
    rows = rows.withColumns({f.name: _transaction_value(f, rows.columns) for f in of_transaction})
    for feature in features.values():
        if feature.parts:
            rows = rows.withColumn(feature.name, _derived_value(feature))
    return rows.select(*KEYS, *features)


def _events(inputs: FeatureInputs, features: Mapping[str, Feature]) -> DataFrame:
    """Return the transactions with their time in microseconds and the attributes that are read."""
    attributes = {column for f in features.values() for column in f.needed_attributes}
    columns = [
        # NaN counts as missing; otherwise it would be larger than any number.
        F.nanvl(column.name, F.lit(None).cast("double")).alias(column.name)
        if column.type == "double"
        else F.col(column.name)
        for column in sorted(attributes, key=lambda column: column.name)
    ]
    if HAS_TIME_OF_DAY in inputs.transactions.columns:
        columns.append(F.col(HAS_TIME_OF_DAY))
    return inputs.transactions.select(*KEYS, *columns, F.unix_micros("event_time").alias("_t"))


def _by_entity(features: Mapping[str, Feature]) -> dict[Entity, tuple[Feature, ...]]:
    """Return the features with windows by entity, in a fixed order."""
    windowed = [feature for feature in features.values() if feature.window]
    entities = sorted({f.entity for f in windowed if f.entity}, key=lambda e: e.name)
    return {entity: tuple(f for f in windowed if f.entity == entity) for entity in entities}


def _day_micros(day: date) -> int:
    """Return the start of a day (UTC), in microseconds since 1970."""
    return (day - date(1970, 1, 1)).days * MICROS_PER_DAY


def _derived_value(feature: Feature) -> Column:
    """Return the value of a ratio or a smoothed rate."""
    part, whole = (F.col(part.name).cast("double") for part in feature.parts)
    if feature.function is Function.SMOOTHED:
        assert feature.prior is not None
        rate, weight = feature.prior
        return (part + rate * weight) / (whole + weight)
    assert feature.function is Function.RATIO
    return F.when(whole != 0, part / whole)


def _transaction_value(feature: Feature, columns: list[str]) -> Column:
    """Return the value of a feature of the transaction itself; `columns` are those of the rows."""
    moment = F.col("event_time")
    if feature is TRANSACTION_AMOUNT:
        amount: Column = F.col("amount").cast("double")
        return amount
    if feature is TRANSACTION_HOUR_OF_DAY:
        seconds = F.pmod(F.col("_t"), F.lit(MICROS_PER_DAY)).cast("double") / MICROS_PER_SECOND
        hours: Column = seconds / 3600
        return F.when(has_time_of_day(), hours) if HAS_TIME_OF_DAY in columns else hours
    if feature is TRANSACTION_DAY_OF_WEEK:
        return F.weekday(moment).cast("double")
    if feature is TRANSACTION_KILOMETRES_FROM_HOME:
        return _kilometres_from_home()
    assert feature.attributes and feature.measure
    value = F.col(feature.measure).cast(feature.type)
    if feature.kind is Kind.CATEGORY:
        return value
    return F.when(F.abs(value) < 10**NUMBER_DIGITS, value)


def _kilometres_from_home() -> Column:
    """Return the great-circle distance between home and merchant, in km, in whole metres.

    The formula is that of `earlier_events.kilometres`.
    """
    latitudes, longitudes = zip(HOME_PLACE, MERCHANT_PLACE, strict=True)
    here, there = (F.radians(name) for name in latitudes)
    east, other_east = (F.radians(name) for name in longitudes)
    square = F.pow(F.sin((here - there) / 2), 2) + F.cos(here) * F.cos(there) * F.pow(
        F.sin((east - other_east) / 2), 2
    )
    distance = 2 * EARTH_RADIUS_KM * F.asin(F.sqrt(F.least(square, F.lit(1.0))))
    are_places = (F.greatest(*map(F.abs, latitudes)) <= 90) & (
        F.greatest(*map(F.abs, longitudes)) <= 180
    )
    # `greatest` and `least` skip nulls.
    is_known = are_places & square.isNotNull()
    return F.when(is_known, F.rint(distance * METRES_PER_KM) / METRES_PER_KM)
