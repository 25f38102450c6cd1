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

from feature_defs.catalogue import FEATURES
from feature_defs.feature import Entity, Feature, Function
from feature_defs.point_in_time.entity_stream import EntityStream
from feature_defs.point_in_time.hot_keys import HotKeys
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from feature_defs.point_in_time.stream_plan import MICROS_PER_DAY, MICROS_PER_SECOND
from feature_defs.sources import KEYS
from feature_defs.transaction import (
    EVENT_FEATURES,
    TRANSACTION_AMOUNT,
    TRANSACTION_DAY_OF_WEEK,
    TRANSACTION_HOUR_OF_DAY,
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
    empty window undefined.
    """
    begin = _day_micros(first - timedelta(days=late_days))
    end = _day_micros(last) + MICROS_PER_DAY - 1
    events = inputs.transactions.select(*KEYS, F.unix_micros("event_time").alias("_t"))
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
        hot = HotKeys.find(
            stream.within_lookback(events), stream.entity.keys, stream.plan.lookback_micros
        )
        rows = stream.add_features(rows, output_rows, other_rows, hot)
    rows = rows.withColumns({f.name: _transaction_value(f) for f in EVENT_FEATURES})
    for feature in features.values():
        if feature.parts:
            rows = rows.withColumn(feature.name, _derived_value(feature))
    return rows.select(*KEYS, *features)


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


def _transaction_value(feature: Feature) -> Column:
    """Return the value of a feature of the transaction itself."""
    moment = F.col("event_time")
    if feature is TRANSACTION_AMOUNT:
        amount: Column = F.col("amount").cast("double")
        return amount
    if feature is TRANSACTION_HOUR_OF_DAY:
        seconds = F.pmod(F.col("_t"), F.lit(MICROS_PER_DAY)).cast("double") / MICROS_PER_SECOND
        hours: Column = seconds / 3600
        return hours
    assert feature is TRANSACTION_DAY_OF_WEEK
    return F.weekday(moment).cast("double")
