"""Features by the definitions' own words in Spark SQL: slow, and obviously right.

Each asked transaction is joined with all events of its entity that its longest window holds, and
each feature is one aggregate over those of its own window. Nothing here is shared with the engine
but the definitions. Labels are those that were given; none is implied.
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
# What sums of whole numbers, or a single one of them, decide: these are equal to the last bit.
EXACT = frozenset(
    {
        Function.COUNT, Function.SUM, Function.MIN, Function.MAX, Function.DISTINCT,
        Function.FRAUD_COUNT, Function.LABEL_COUNT, Function.SECONDS_SINCE_LAST,
        Function.FIRST_TIME,
    }
)  # fmt: skip


def by_definition(
    known: FeatureInputs, first: date, last: date, features: Mapping[str, Feature]
) -> DataFrame:
    """`transaction_id` and one column per feature, of the rows from `first` to `last`."""
    from pyspark.sql import functions as F

    spark = known.transactions.sparkSession
    known.transactions.createOrReplaceTempView("oracle_transactions")
    known.labels.createOrReplaceTempView("oracle_labels")
    spark.sql(EVENTS).createOrReplaceTempView("oracle_events")
    between = f"business_date BETWEEN DATE'{first}' AND DATE'{last}'"
    said = ", ".join(f"{sql} AS {name}" for name, sql in OF_THE_TRANSACTION.items())
    found = spark.sql(f"SELECT transaction_id, {said} FROM oracle_events WHERE {between}")
    windowed = [feature for feature in features.values() if feature.window]
    for entity in sorted({f.entity for f in windowed if f.entity}, key=lambda e: e.name):
        mine = [feature for feature in windowed if feature.entity == entity]
        found = found.join(spark.sql(_of_entity(entity, mine, between)), "transaction_id")
    for feature in features.values():
        if feature.parts:
            found = found.withColumn(feature.name, F.expr(_of_parts(feature)))
    return found


# The session's zone is UTC.
OF_THE_TRANSACTION = {
    "transaction_amount": "double(amount)",
    "transaction_hour_of_day": "hour(event_time) + minute(event_time) / 60D "
    "+ extract(SECOND FROM event_time) / 3600D",
    "transaction_day_of_week": "double(extract(DAYOFWEEK_ISO FROM event_time) - 1)",
}
EXACT_OF_THE_TRANSACTION = {"transaction_amount", "transaction_day_of_week"}


EVENTS = """
SELECT t.*, unix_micros(t.event_time) AS at, l.versions
FROM oracle_transactions t LEFT JOIN (
    SELECT transaction_id, sort_array(collect_list(struct(unix_micros(label_time) AS known,
                                                          int(is_fraud) AS fraud))) AS versions
    FROM oracle_labels GROUP BY transaction_id
) l USING (transaction_id)
"""


def _of_entity(entity: Entity, features: list[Feature], between: str) -> str:
    same = " AND ".join(f"e.{key} = a.{key}" for key in entity.keys)
    reach = max(feature.lookback_days for feature in features) * DAY_MICROS
    aggregates = ",\n    ".join(f"{_aggregate(feature)} AS {feature.name}" for feature in features)
    return f"""
SELECT a.transaction_id,
    {aggregates}
FROM oracle_events a JOIN oracle_events e ON {same} AND e.at > a.at - {reach} AND e.at <= a.at
WHERE a.{between}
GROUP BY a.transaction_id
"""


def _inside(feature: Feature) -> str:
    """Whether an event is in the window: open at the start, closed at the end, ties by id."""
    assert feature.window is not None
    start = f"e.at > a.at - {feature.window.lookback_days * DAY_MICROS}"
    if feature.window.delay_days:
        return f"{start} AND e.at <= a.at - {feature.window.delay_days * DAY_MICROS}"
    return f"{start} AND (e.at < a.at OR e.transaction_id <= a.transaction_id)"


def _aggregate(feature: Feature) -> str:
    assert feature.window is not None and feature.function is not None
    inside = _inside(feature)
    counted = inside
    if feature.where:
        where = feature.where
        value = f"'{where.value}'" if isinstance(where.value, str) else f"{where.value}"
        counted = f"{inside} AND e.{where.column} {where.operator} {value}"
    number = f"count_if({counted})"
    amount = f"CASE WHEN {counted} THEN e.{feature.measure} END"
    earlier = f"({inside}) AND e.transaction_id <> a.transaction_id"
    last = f"max(CASE WHEN {earlier} THEN e.at END)"
    label = "try_element_at(filter(e.versions, v -> v.known <= a.at), -1).fraud"
    judged = f"count_if({inside} AND {label} IS NOT NULL)"
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
        Function.FRAUD_RATE: f"coalesce({frauds} / nullif({judged}, 0), {empty})",
        Function.FRAUD_COUNT: frauds,
        Function.LABEL_COUNT: judged,
        Function.SECONDS_SINCE_LAST: f"(any_value(a.at) - {last}) / 1e6D",
        Function.SECONDS_BETWEEN: f"{length_s}D / nullif({number}, 0)",
        Function.FIRST_TIME: f"double(count_if({earlier}) = 0)",
    }[feature.function]


def _of_parts(feature: Feature) -> str:
    one, other = (part.name for part in feature.parts)
    if feature.prior:
        rate, weight = feature.prior
        return f"({one} + {rate}D * {weight}D) / ({other} + {weight}D)"
    return f"double({one}) / nullif(double({other}), 0D)"


def differing(
    ours: DataFrame, theirs: DataFrame, features: Mapping[str, Feature]
) -> dict[str, int]:
    """Rows that differ, by feature, and rows that one side lacks, as `rows`."""
    from pyspark.sql import functions as F

    left = ours.select("transaction_id", *(F.col(n).alias(f"our {n}") for n in features))
    counts = {"rows": F.count_if(F.col("there").isNull() | F.col("here").isNull())}
    both = left.withColumn("here", F.lit(1)).join(
        theirs.withColumn("there", F.lit(1)), "transaction_id", "full"
    )
    for name, feature in features.items():
        one, other = F.col(f"`our {name}`"), F.col(name)
        equal = one.eqNullSafe(other)
        if feature.function not in EXACT and name not in EXACT_OF_THE_TRANSACTION:
            near = F.abs(one - other) <= RELATIVE_TOLERANCE * F.greatest(F.abs(one), F.abs(other))
            equal = equal | F.coalesce(near, F.lit(False))
        counts[name] = F.count_if(~equal)
    row = both.agg(*(column.alias(name) for name, column in counts.items())).collect()[0]
    return {name: row[name] for name in counts if row[name]}
