"""A night's features are bit-identical for every way to build them, and read the lookback only."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from feature_lakes import fill_lake, inputs_of_nights
from feature_rows import Bank, read_bank

from feature_defs.catalogue import LOOKBACK_DAYS

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

    from feature_defs.point_in_time.labels_as_of import FeatureInputs
    from jobs.lake.delta_io import Lake

pytestmark = [pytest.mark.spark, pytest.mark.slow]

BANK = Bank(num_rows=8000, num_days=110, num_cards=30, num_merchants=40)
LATE_DAYS = 7


@pytest.fixture(scope="module")
def months(spark: SparkSession, empty_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Return a lake with the transactions and labels of 110 days."""
    import shutil

    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    folder = tmp_path_factory.mktemp("months")
    shutil.copytree(empty_lake, folder / "lake")
    lake = Lake(spark, load_settings(None, {"lake": str(folder / "lake"), "late_days": LATE_DAYS}))
    BANK.write(spark, str(folder / "bank"))
    fill_lake(lake, read_bank(spark, str(folder / "bank")), num_files=2)
    return lake


def build(inputs: FeatureInputs, first: date, last: date) -> DataFrame:
    from feature_defs.point_in_time.compiler import compile_features

    return compile_features(inputs, first, last, LATE_DAYS)


def bytes_of(features: DataFrame, day: date) -> dict[str, tuple[Any, ...]]:
    """Return the values of a night's rows by transaction; floats in hexadecimal, with all bits."""
    rows = features.where(f"business_date = '{day}'").collect()
    values = {
        row["transaction_id"]: tuple(v.hex() if isinstance(v, float) else v for v in row)
        for row in rows
    }
    assert len(values) == len(rows) > 40
    return values


# Slow: builds months of features, then three of their nights again, alone and shuffled.
def test_night_alone_in_a_backfill_and_shuffled_is_bit_identical(
    spark: SparkSession, months: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feature_defs.point_in_time import hot_keys
    from feature_defs.point_in_time.labels_as_of import FeatureInputs

    first = BANK.last - timedelta(days=90)
    whole = build(inputs_of_nights(months, first, BANK.last), first, BANK.last).cache()
    for day in (first, first + timedelta(days=41), BANK.last):
        inputs = inputs_of_nights(months, day, day)
        alone = bytes_of(build(inputs, day, day), day)
        assert alone == bytes_of(whole, day)
        shuffled = FeatureInputs(
            inputs.transactions.orderBy("amount").repartition(5),
            inputs.labels.orderBy("transaction_id").repartition(3),
            inputs.policy,
        )
        monkeypatch.setattr(hot_keys, "HOT_EVENTS", 50)
        assert bytes_of(build(shuffled, day, day), day) == alone
        monkeypatch.undo()
    whole.unpersist()


def test_night_reads_its_lookback_and_no_earlier_day(months: Lake) -> None:
    from jobs.lake.tables import LABELS, TRANSACTIONS

    day = BANK.last
    inputs = inputs_of_nights(months, day, day)
    first_read = day - timedelta(days=LOOKBACK_DAYS + LATE_DAYS)
    for frame, table in ((inputs.transactions, TRANSACTIONS), (inputs.labels, LABELS)):
        read, available = (days_of(f.inputFiles()) for f in (frame, months.read(table)))
        assert min(read) == first_read > min(available)
        assert max(read) == day


def test_night_takes_a_shuffle_per_entity_and_distinct_count_and_two_for_labels(
    spark: SparkSession, months: Lake
) -> None:
    day = BANK.last
    # The labels of a real night are too many for a broadcast join.
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    plan = build(inputs_of_nights(months, day, day), day, day)._jdf.queryExecution().executedPlan()
    text = plan.toString()
    spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    # Two entities, the cards of a merchant, labels by transaction on both sides.
    assert len(re.findall(r"Exchange hashpartitioning", text)) == 5, text
    assert "SinglePartition" not in text


def days_of(files: list[str]) -> set[date]:
    return {date.fromisoformat(re.findall(r"business_date=([0-9-]+)", file)[0]) for file in files}
