"""Compiles feature definitions to one Spark plan: exact at every transaction's moment.

For each entity the events are sorted by key and time, once, and one pass over the sorted stream
gives every window of every transaction (`window_stream.py`): what a window holds is the difference
of a running sum at its two ends. What that buys:

- money is summed in integer minor units, so neither order nor partitioning can change a bit;
- one row per event in the sort, whatever the number of windows (a sliding frame recomputes every
  row's window and falls over on a busy merchant);
- a key with very many events is cut into slices that are worked on apart (`hot_keys.py`);
- labels that keep to the delay of their windows cost nothing; those that do not are corrected at
  their moment (`label_changes.py`).

Shuffles: one per entity, and one to bring labels to their transactions. Before, one job per
entity counts the events of its keys.
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
from feature_defs.sequences import (
    EVENT_FEATURES,
    TRANSACTION_AMOUNT,
    TRANSACTION_DAY_OF_WEEK,
    TRANSACTION_HOUR_OF_DAY,
)
from feature_defs.sources import KEYS


def compile_features(
    known: FeatureInputs,
    first: date,
    last: date,
    late_days: int,
    features: Mapping[str, Feature] = FEATURES,
) -> DataFrame:
    """Features of the transactions delivered from `first` to `last` (business dates, included).

    A row delivered late may lie up to `late_days` before `first`; windows are counted from its
    `event_time`. Returns the keys and one column per feature, nulls (never NaN) where a definition
    leaves an empty window undefined.
    """
    begin, end = _moment(first - timedelta(days=late_days)), _moment(last, 1) - 1
    events = known.transactions.select(*KEYS, F.unix_micros("event_time").alias("_t"))
    asked = F.col("business_date").between(F.lit(first), F.lit(last))
    given, others = events.where(asked), events.where(~asked)
    streams = [
        EntityStream(entity, of_entity, known, begin, end)
        for entity, of_entity in _by_entity(features).items()
    ]
    rows = given
    # Those that read labels come first: rows go through one more shuffle there, and are small yet.
    for stream in sorted(streams, key=lambda stream: not stream.reads_labels):
        # Counted before any stream is computed, which a count would otherwise do once more.
        hot = HotKeys.find(stream.near(events), stream.entity.keys, stream.plan.reach)
        rows = stream.add(rows, given, others, hot)
    rows = rows.withColumns({f.name: _of_the_transaction(f) for f in EVENT_FEATURES})
    for feature in features.values():
        if feature.parts:
            rows = rows.withColumn(feature.name, _of_its_parts(feature))
    return rows.select(*KEYS, *features)


def _by_entity(features: Mapping[str, Feature]) -> dict[Entity, tuple[Feature, ...]]:
    """Features that are made from windows, by entity, in a fixed order."""
    windowed = [feature for feature in features.values() if feature.window]
    entities = sorted({f.entity for f in windowed if f.entity}, key=lambda e: e.name)
    return {entity: tuple(f for f in windowed if f.entity == entity) for entity in entities}


def _moment(day: date, later_days: int = 0) -> int:
    """Microseconds from 1970 to the beginning of a day, or of one so many days later (UTC)."""
    return ((day - date(1970, 1, 1)).days + later_days) * MICROS_PER_DAY


def _of_its_parts(feature: Feature) -> Column:
    """The value of a feature that is made from others."""
    part, whole = (F.col(part.name).cast("double") for part in feature.parts)
    if feature.function is Function.SMOOTHED:
        assert feature.prior is not None
        rate, weight = feature.prior
        return (part + rate * weight) / (whole + weight)
    assert feature.function is Function.RATIO
    return F.when(whole != 0, part / whole)


def _of_the_transaction(feature: Feature) -> Column:
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
