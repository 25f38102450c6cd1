"""Generate rows for feature benchmarks, and compute the same features with Spark's own windows.

A row is a function of its number, so every run has the same rows. Labels arrive a week after the
event, as in the public data.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from feature_defs.point_in_time.labels_as_of import FeatureInputs

FIRST = date(2024, 1, 1)
SECONDS_PER_DAY = 86_400
LABEL_DELAY_DAYS = 7


@dataclass(frozen=True)
class Bank:
    """Number of rows, and how they spread over days, cards and merchants.

    About `busy_card_rows` rows belong to one card, `busy_merchant_rows` to one merchant. The card's
    rows are all in the last `busy_card_days`, unless that is 0.
    """

    num_rows: int
    num_days: int
    num_cards: int = 4000
    num_merchants: int = 4000
    busy_card_rows: int = 0
    busy_card_days: int = 0
    busy_merchant_rows: int = 0

    @property
    def last(self) -> date:
        """Return the last day."""
        return FIRST + timedelta(days=self.num_days - 1)

    def write(self, spark: SparkSession, folder: str) -> None:
        """Write `transactions` and `labels` as Parquet."""
        from pyspark.sql import functions as F

        number = F.col("id")
        second = F.pmod(F.xxhash64(F.lit("time"), number), F.lit(self.num_days * SECONDS_PER_DAY))
        if self.busy_card_days:
            late = F.pmod(second, F.lit(self.busy_card_days * SECONDS_PER_DAY))
            first_late = (self.num_days - self.busy_card_days) * SECONDS_PER_DAY
            busy = self._is_busy("card", self.busy_card_rows)
            second = F.when(busy, first_late + late).otherwise(second)
        at = F.timestamp_seconds(F.unix_timestamp(F.lit(FIRST)) + second)
        rows = spark.range(0, self.num_rows, numPartitions=8).select(
            F.format_string("t%010d", number).alias("transaction_id"),
            at.alias("event_time"),
            F.to_date(at).alias("business_date"),
            at.alias("ingest_time"),
            self._keys("card", self.num_cards, self.busy_card_rows).alias("card_id"),
            self._keys("merchant", self.num_merchants, self.busy_merchant_rows).alias(
                "merchant_id"
            ),
            (F.pmod(F.xxhash64(F.lit("amount"), number), F.lit(500_000)) / 1000)
            .cast("decimal(18,3)")
            .alias("amount"),
        )
        rows.write.mode("overwrite").parquet(f"{folder}/transactions")
        labels = spark.read.parquet(f"{folder}/transactions").select(
            "transaction_id",
            (F.pmod(F.xxhash64(F.lit("fraud"), "transaction_id"), F.lit(100)) == 0).alias(
                "is_fraud"
            ),
            (F.col("event_time") + F.make_dt_interval(days=F.lit(LABEL_DELAY_DAYS))).alias(
                "label_time"
            ),
            F.lit("delivery").alias("source"),
            "ingest_time",
            "business_date",
        )
        labels.write.mode("overwrite").parquet(f"{folder}/labels")

    def _keys(self, name: str, num_keys: int, busy_rows: int) -> Column:
        from pyspark.sql import functions as F

        key = F.pmod(F.xxhash64(F.lit(name), "id"), F.lit(num_keys))
        busy = self._is_busy(name, busy_rows)
        return F.format_string(f"{name}-%06d", F.when(busy, -1).otherwise(key))

    def _is_busy(self, name: str, busy_rows: int) -> Column:
        """Return which rows belong to the busy key; they are spread among all others."""
        from pyspark.sql import functions as F

        position = F.pmod(F.xxhash64(F.lit(f"busy {name}"), "id"), F.lit(self.num_rows))
        return position < busy_rows


def read_bank(spark: SparkSession, folder: str) -> FeatureInputs:
    """Read the rows of a bank as inputs of features."""
    from feature_defs.labels import LabelPolicy
    from feature_defs.point_in_time.labels_as_of import FeatureInputs

    transactions, labels = (spark.read.parquet(f"{folder}/{n}") for n in ("transactions", "labels"))
    return FeatureInputs(transactions, labels, LabelPolicy())


def by_range_between(inputs: FeatureInputs) -> DataFrame:
    """Compute the catalogue's windows with Spark SQL, for labels that arrive after a week.

    Events of one instant have no defined order here, which does not matter for the time. Derived
    features, and functions that no frame computes (`distinct`, `quantile_rank`), are left out. The
    library `dbl-tempo` is not measured separately: it compiles a window
    to this `rangeBetween`, in seconds and without a delay, and its version 0.1.30 raises an
    UnboundLocalError on Spark 4.0 when columns are named.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F

    from feature_defs.catalogue import FEATURES, available
    from feature_defs.feature import Function

    micros = 1_000_000
    labels = inputs.labels.select("transaction_id", F.col("is_fraud").cast("long").alias("_fraud"))
    rows = inputs.transactions.join(labels, "transaction_id", "left").withColumn(
        "_t", F.unix_micros("event_time")
    )
    minor = (F.col("amount") * 1000).cast("long")
    for feature in available(FEATURES).values():
        window, entity = feature.window, feature.entity
        if window is None or entity is None:
            continue
        key = Window.partitionBy(*entity.keys).orderBy("_t")
        frame = key.rangeBetween(-window.lookback_s * micros + 1, -window.delay_s * micros)
        value = {
            Function.COUNT: lambda frame=frame: F.count("*").over(frame),
            Function.SUM: lambda frame=frame: F.sum(minor).over(frame) / 1000,
            Function.MEAN: lambda frame=frame: (
                F.sum(minor).over(frame) / F.count("*").over(frame) / 1000
            ),
            Function.FRAUD_RATE: lambda frame=frame: (
                F.sum("_fraud").over(frame) / F.nullif(F.count("_fraud").over(frame), F.lit(0))
            ),
            Function.FRAUD_COUNT: lambda frame=frame: F.coalesce(
                F.sum("_fraud").over(frame), F.lit(0)
            ),
            Function.LABEL_COUNT: lambda frame=frame: F.count("_fraud").over(frame),
            Function.SECONDS_SINCE_LAST: lambda key=key: (
                (F.col("_t") - F.lag("_t").over(key)) / 1_000_000
            ),
        }.get(feature.function)
        if value is not None:
            rows = rows.withColumn(feature.name, value())
    return rows
