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

DAY_MICROS = 86_400_000_000
RELATIVE_TOLERANCE = 1e-12
# Functions that depend on integer sums, or on a single integer: equal to the last bit.
EXACT = frozenset(
    {
        Function.COUNT, Function.SUM, Function.MIN, Function.MAX, Function.DISTINCT,
        Function.FRAUD_COUNT, Function.LABEL_COUNT, Function.SECONDS_SINCE_LAST,
        Function.FIRST_TIME,
    }
)  # fmt: skip


def by_definition(
    inputs: FeatureInputs, first: date, last: date, features: Mapping[str, Feature]
) -> DataFrame:
    """Return `transaction_id` and one column per feature, for the rows from `first` to `last`."""
    from pyspark.sql import functions as F

    spark = inputs.transactions.sparkSession
    inputs.transactions.createOrReplaceTempView("oracle_transactions")
    inputs.labels.createOrReplaceTempView("oracle_labels")
    spark.sql(EVENTS).createOrReplaceTempView("oracle_events")
    between = f"business_date BETWEEN DATE'{first}' AND DATE'{last}'"
    columns = ", ".join(f"{sql} AS {name}" for name, sql in TRANSACTION_FEATURES.items())
    result = spark.sql(f"SELECT transaction_id, {columns} FROM oracle_events WHERE {between}")
    windowed = [feature for feature in features.values() if feature.window]
    for entity in sorted({f.entity for f in windowed if f.entity}, key=lambda e: e.name):
        of_entity = [feature for feature in windowed if feature.entity == entity]
        result = result.join(spark.sql(_entity_sql(entity, of_entity, between)), "transaction_id")
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
SELECT t.*, unix_micros(t.event_time) AS at, l.versions
FROM oracle_transactions t LEFT JOIN (
    SELECT transaction_id, sort_array(collect_list(struct(unix_micros(label_time) AS micros,
                                                          int(is_fraud) AS fraud))) AS versions
    FROM oracle_labels GROUP BY transaction_id
) l USING (transaction_id)
"""


def _entity_sql(entity: Entity, features: list[Feature], between: str) -> str:
    same_keys = " AND ".join(f"e.{key} = a.{key}" for key in entity.keys)
    lookback = max(feature.lookback_days for feature in features) * DAY_MICROS
    aggregates = ",\n    ".join(
        f"{_aggregate_sql(feature)} AS {feature.name}" for feature in features
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
    start = f"e.at > a.at - {feature.window.lookback_days * DAY_MICROS}"
    if feature.window.delay_days:
        return f"{start} AND e.at <= a.at - {feature.window.delay_days * DAY_MICROS}"
    return f"{start} AND (e.at < a.at OR e.transaction_id <= a.transaction_id)"


def _aggregate_sql(feature: Feature) -> str:
    assert feature.window is not None and feature.function is not None
    inside = _in_window_sql(feature)
    counted = inside
    if feature.where:
        where = feature.where
        value = f"'{where.value}'" if isinstance(where.value, str) else f"{where.value}"
        counted = f"{inside} AND e.{where.column} {where.operator} {value}"
    number = f"count_if({counted})"
    amount = f"CASE WHEN {counted} THEN e.{feature.measure} END"
    earlier = f"({inside}) AND e.transaction_id <> a.transaction_id"
    last = f"max(CASE WHEN {earlier} THEN e.at END)"
    label = "try_element_at(filter(e.versions, v -> v.micros <= a.at), -1).fraud"
    labelled = f"count_if({inside} AND {label} IS NOT NULL)"
    frauds = f"count_if({inside} AND {label} = 1)"
    empty = "NULL" if feature.empty is None else f"double({feature.empty})"
    length_s = feature.window.length_days * 86_400
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
    }[feature.function]


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
        if feature.function not in EXACT and name not in EXACT_TRANSACTION_FEATURES:
            near = F.abs(one - other) <= RELATIVE_TOLERANCE * F.greatest(F.abs(one), F.abs(other))
            equal = equal | F.coalesce(near, F.lit(False))
        counts[name] = F.count_if(~equal)
    row = both.agg(*(column.alias(name) for name, column in counts.items())).collect()[0]
    return {name: row[name] for name in counts if row[name]}
