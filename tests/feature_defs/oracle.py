"""An oracle: the same features in plain Spark SQL, slow and easy to check.

Each transaction is joined with all events of its entity in its longest window. Each feature is one
aggregate over the events of its own window. The oracle shares only the definitions with the
engine. It reads the labels of the table only and implies none (`maturity_days` is ignored).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING

from feature_defs.feature import Entity, Feature, Function

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from feature_defs.point_in_time.labels_as_of import FeatureInputs

SECOND_MICROS = 1_000_000
RELATIVE_TOLERANCE = 1e-12
# Functions that depend on integer sums, or on a single integer: equal to the last bit.
EXACT = frozenset(
    {
        Function.COUNT, Function.SUM, Function.MIN, Function.MAX, Function.DISTINCT,
        Function.FRAUD_COUNT, Function.LABEL_COUNT, Function.SECONDS_SINCE_LAST,
        Function.FIRST_TIME,
    }
)  # fmt: skip
# Half of these 4 hours lie before an hour, half after it.
NEAR_MICROS, DAY_MICROS = 7_200_000_000, 86_400_000_000
# Coordinates count to 10^-7 degrees, distances to the metre; the mean radius of the Earth is in km.
PLACE_DIGITS, EARTH_RADIUS_KM = 7, 6371.0088


def by_definition(
    inputs: FeatureInputs, first: date, last: date, features: Mapping[str, Feature]
) -> DataFrame:
    """Return `transaction_id` and one column per feature, for the rows from `first` to `last`."""
    from pyspark.sql import functions as F

    spark = inputs.transactions.sparkSession
    inputs.transactions.createOrReplaceTempView("oracle_transactions")
    inputs.labels.createOrReplaceTempView("oracle_labels")
    columns = _event_columns(features, inputs.transactions.columns)
    spark.sql(EVENTS.format(columns=columns)).createOrReplaceTempView("oracle_events")
    has_hour = "has_time_of_day" in inputs.transactions.columns
    between = f"business_date BETWEEN DATE'{first}' AND DATE'{last}'"
    of_transaction = [f for f in features.values() if not f.window and not f.parts]
    columns = ", ".join(f"{_transaction_sql(f, has_hour)} AS {f.name}" for f in of_transaction)
    result = spark.sql(f"SELECT transaction_id, {columns} FROM oracle_events WHERE {between}")
    windowed = [feature for feature in features.values() if feature.window]
    for entity in sorted({f.entity for f in windowed if f.entity}, key=lambda e: e.name):
        of_entity = [feature for feature in windowed if feature.entity == entity]
        # A transaction without such an entity has no row here; its features are null.
        sql = _entity_sql(entity, of_entity, between, has_hour)
        result = result.join(spark.sql(sql), "transaction_id", "left")
    for feature in features.values():
        if feature.parts:
            result = result.withColumn(feature.name, F.expr(_derived_sql(feature)))
    return result


# The session's time zone is UTC.
TRANSACTION_FEATURES = {
    "transaction_amount": "double(amount)",
    "transaction_hour_of_day": "hour(event_time) + minute(event_time) / 60D "
    "+ extract(SECOND FROM event_time) / 3600D",
    "transaction_day_of_week": "double(extract(DAYOFWEEK_ISO FROM event_time) - 1)",
}
EXACT_TRANSACTION_FEATURES = {"transaction_amount", "transaction_day_of_week"}


EVENTS = """
SELECT {columns}, unix_micros(t.event_time) AS at, l.versions
FROM oracle_transactions t LEFT JOIN (
    SELECT transaction_id, sort_array(collect_list(struct(unix_micros(label_time) AS micros,
                                                          int(is_fraud) AS fraud))) AS versions
    FROM oracle_labels GROUP BY transaction_id
) l USING (transaction_id)
"""


def _event_columns(features: Mapping[str, Feature], names: list[str]) -> str:
    """Return the columns of the transactions; NaN becomes null."""
    doubles = {c.name for f in features.values() for c in f.needed_attributes if c.type == "double"}
    return ", ".join(
        f"nullif(t.{name}, double('NaN')) AS {name}" if name in doubles else f"t.{name}"
        for name in names
    )


def _transaction_sql(feature: Feature, has_hour: bool) -> str:
    """Return the SQL of a feature of the transaction itself."""
    if feature.name == "transaction_kilometres_from_home":
        return _kilometres_sql("card_latitude", "card_longitude", *PLACE)
    if feature.attributes:
        return f"CAST({feature.measure} AS {feature.type})"
    sql = TRANSACTION_FEATURES[feature.name]
    if feature.name == "transaction_hour_of_day" and has_hour:
        return f"CASE WHEN coalesce(has_time_of_day, true) THEN {sql} END"
    return sql


PLACE = ("merchant_latitude", "merchant_longitude")


def _kilometres_sql(north: str, east: str, other_north: str, other_east: str) -> str:
    square = (
        f"pow(sin(radians({north} - {other_north}) / 2), 2) + cos(radians({north})) "
        f"* cos(radians({other_north})) * pow(sin(radians({east} - {other_east}) / 2), 2)"
    )
    return f"round(2 * {EARTH_RADIUS_KM}D * asin(sqrt({square})), 3)"


def _entity_sql(entity: Entity, features: list[Feature], between: str, has_hour: bool) -> str:
    same_keys = " AND ".join(f"e.{key} = a.{key}" for key in entity.keys)
    lookback = max(f.window.lookback_s for f in features if f.window) * SECOND_MICROS
    aggregates = ",\n    ".join(
        f"{_aggregate_sql(feature, has_hour)} AS {feature.name}" for feature in features
    )
    return f"""
SELECT a.transaction_id,
    {aggregates}
FROM oracle_events a JOIN oracle_events e
    ON {same_keys} AND e.at > a.at - {lookback} AND e.at <= a.at
WHERE a.{between}
GROUP BY a.transaction_id
"""


def _in_window_sql(feature: Feature) -> str:
    """Return the condition that an event is in the window; ties are ordered by id."""
    assert feature.window is not None
    start = f"e.at > a.at - {feature.window.lookback_s * SECOND_MICROS}"
    if feature.window.delay_s:
        return f"{start} AND e.at <= a.at - {feature.window.delay_s * SECOND_MICROS}"
    return f"{start} AND (e.at < a.at OR e.transaction_id <= a.transaction_id)"


def _aggregate_sql(feature: Feature, has_hour: bool) -> str:
    assert feature.window is not None and feature.function is not None
    inside = _in_window_sql(feature)
    counted = inside
    if feature.where:
        where = feature.where
        value = f"'{where.value}'" if isinstance(where.value, str) else f"{where.value}"
        counted = f"{inside} AND e.{where.column} {where.operator} {value}"
    number = f"count_if({counted})"
    measure = f"e.{feature.measure}"
    if feature.scale != 3 and feature.measure:
        # Numbers count to a fixed number of digits, so their sums are exact.
        measure = f"CAST({measure} AS decimal(38, {feature.scale}))"
    if feature.is_nullable_measure:
        number = f"count_if({counted} AND {measure} IS NOT NULL)"
    amount = f"CASE WHEN {counted} THEN {measure} END"
    earlier = f"({inside}) AND e.transaction_id <> a.transaction_id"
    own = f"any_value({measure.replace('e.', 'a.')})"
    others = f"CASE WHEN {earlier} THEN {measure} END"
    number_earlier = f"count({others})"
    hour, own_hour = (f"pmod({side}.at, {DAY_MICROS})" for side in "ea")
    if has_hour:
        hour, own_hour = (
            f"CASE WHEN coalesce({side}.has_time_of_day, true) THEN {sql} END"
            for side, sql in (("e", hour), ("a", own_hour))
        )
    gap = f"abs({hour} - {own_hour})"
    near = f"least({gap}, {DAY_MICROS} - {gap}) <= {NEAR_MICROS}"
    has_gap = f"{earlier} AND {gap} IS NOT NULL"
    way = _way_sql(earlier)
    last = f"max(CASE WHEN {earlier} THEN e.at END)"
    label = "try_element_at(filter(e.versions, v -> v.micros <= a.at), -1).fraud"
    labelled = f"count_if({inside} AND {label} IS NOT NULL)"
    frauds = f"count_if({inside} AND {label} = 1)"
    empty = "NULL" if feature.empty is None else f"double({feature.empty})"
    seconds = f"((any_value(a.at) - {last}) / 1e6D)"
    length_s = feature.window.length_s
    return {
        Function.COUNT: number,
        Function.SUM: f"coalesce(double(sum({amount})), 0D)",
        Function.MEAN: f"coalesce(double(sum({amount})) / nullif({number}, 0), {empty})",
        Function.MIN: f"double(min({amount}))",
        Function.MAX: f"double(max({amount}))",
        Function.STD: f"stddev_samp(double({amount}))",
        Function.SHARE: f"coalesce({number} / nullif(count_if({inside}), 0), {empty})",
        Function.DISTINCT: f"count(DISTINCT CASE WHEN {inside} THEN e.{feature.measure} END)",
        Function.FRAUD_RATE: f"coalesce({frauds} / nullif({labelled}, 0), {empty})",
        Function.FRAUD_COUNT: frauds,
        Function.LABEL_COUNT: labelled,
        Function.SECONDS_SINCE_LAST: f"(any_value(a.at) - {last}) / 1e6D",
        Function.SECONDS_BETWEEN: f"{length_s}D / nullif({number}, 0)",
        Function.FIRST_TIME: f"double(count_if({earlier}) = 0)",
        Function.SAME_SHARE: f"CASE WHEN {own} IS NOT NULL THEN count_if({earlier} AND "
        f"e.{feature.measure} = a.{feature.measure}) / nullif(count_if({earlier}), 0) END",
        Function.DEVIATION: f"CASE WHEN min({others}) < max({others}) THEN "
        f"(double({own}) - double(sum({others})) / {number_earlier}) "
        f"/ stddev_samp(double({others})) END",
        Function.QUANTILE_RANK: f"CASE WHEN {own} IS NOT NULL THEN "
        f"(2 * count_if({earlier} AND e.{feature.measure} < a.{feature.measure}) "
        f"+ count_if({earlier} AND e.{feature.measure} = a.{feature.measure})) "
        f"/ nullif(2 * {number_earlier}, 0) END",
        Function.HOUR_SHARE: f"count_if({has_gap} AND {near}) / nullif(count_if({has_gap}), 0)",
        Function.KILOMETRES_SINCE_LAST: way,
        Function.SPEED_SINCE_LAST: f"{way} * 3600 / nullif({seconds}, 0D)",
    }[feature.function]


def _way_sql(earlier: str) -> str:
    """Return the distance from the event before; null if one of the two has no place."""
    last = (
        f"max(CASE WHEN {earlier} THEN struct(e.at AS at, e.transaction_id AS id, "
        f"e.merchant_latitude AS north, e.merchant_longitude AS east) END)"
    )
    here = (f"any_value(a.{name})" for name in PLACE)
    return _kilometres_sql(*here, f"({last}).north", f"({last}).east")


def _derived_sql(feature: Feature) -> str:
    one, other = (part.name for part in feature.parts)
    if feature.prior:
        rate, weight = feature.prior
        return f"({one} + {rate}D * {weight}D) / ({other} + {weight}D)"
    return f"double({one}) / nullif(double({other}), 0D)"


def differing(
    ours: DataFrame, theirs: DataFrame, features: Mapping[str, Feature]
) -> dict[str, int]:
    """Return how many rows differ, by feature, and how many are on one side only, as `rows`."""
    from pyspark.sql import functions as F

    left = ours.select("transaction_id", *(F.col(n).alias(f"our {n}") for n in features))
    counts = {"rows": F.count_if(F.col("there").isNull() | F.col("here").isNull())}
    both = left.withColumn("here", F.lit(1)).join(
        theirs.withColumn("there", F.lit(1)), "transaction_id", "full"
    )
    for name, feature in features.items():
        one, other = F.col(f"`our {name}`"), F.col(name)
        equal = one.eqNullSafe(other)
        is_exact = feature.type == "string" or feature.function in EXACT
        if not is_exact and name not in EXACT_TRANSACTION_FEATURES:
            near = F.abs(one - other) <= RELATIVE_TOLERANCE * F.greatest(F.abs(one), F.abs(other))
            equal = equal | F.coalesce(near, F.lit(False))
        counts[name] = F.count_if(~equal)
    row = both.agg(*(column.alias(name) for name, column in counts.items())).collect()[0]
    return {name: row[name] for name in counts if row[name]}
