"""A night's features are the same bytes however they are built, and read no more than they need."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from feature_lakes import fill, known_for
from feature_rows import Bank, knowledge_at

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
    """A lake with the transactions and labels of 110 days."""
    import shutil

    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    place = tmp_path_factory.mktemp("months")
    shutil.copytree(empty_lake, place / "lake")
    lake = Lake(spark, load_settings(None, {"lake": str(place / "lake"), "late_days": LATE_DAYS}))
    BANK.write(spark, str(place / "bank"))
    fill(lake, knowledge_at(spark, str(place / "bank")), num_files=2)
    return lake


def built(known: FeatureInputs, first: date, last: date) -> DataFrame:
    from feature_defs.point_in_time.compiler import compile_features

    return compile_features(known, first, last, LATE_DAYS)


def bytes_of(features: DataFrame, day: date) -> dict[str, tuple[Any, ...]]:
    """Every value of a night's rows, floats with all their bits, by transaction."""
    rows = features.where(f"business_date = '{day}'").collect()
    found = {
        row["transaction_id"]: tuple(v.hex() if isinstance(v, float) else v for v in row)
        for row in rows
    }
    assert len(found) == len(rows) > 40
    return found


def test_a_night_is_the_same_bytes_alone_in_a_backfill_and_shuffled(
    spark: SparkSession, months: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feature_defs.point_in_time import hot_keys
    from feature_defs.point_in_time.labels_as_of import FeatureInputs

    first = BANK.last - timedelta(days=90)
    whole = built(known_for(months, first, BANK.last), first, BANK.last).cache()
    for day in (first, first + timedelta(days=41), BANK.last):
        known = known_for(months, day, day)
        alone = bytes_of(built(known, day, day), day)
        assert alone == bytes_of(whole, day)
        mixed = FeatureInputs(
            known.transactions.orderBy("amount").repartition(5),
            known.labels.orderBy("transaction_id").repartition(3),
            known.policy,
        )
        monkeypatch.setattr(hot_keys, "HOT_EVENTS", 50)
        assert bytes_of(built(mixed, day, day), day) == alone
        monkeypatch.undo()
    whole.unpersist()


def test_a_night_reads_its_lookback_and_nothing_before(months: Lake) -> None:
    from jobs.lake.tables import LABELS, TRANSACTIONS

    day = BANK.last
    known = known_for(months, day, day)
    reach = day - timedelta(days=LOOKBACK_DAYS + LATE_DAYS)
    for frame, table in ((known.transactions, TRANSACTIONS), (known.labels, LABELS)):
        read, there = (days_of(f.inputFiles()) for f in (frame, months.read(table)))
        assert min(read) == reach > min(there)
        assert max(read) == day


def test_a_night_takes_two_shuffles_for_entities_and_two_for_labels(
    spark: SparkSession, months: Lake
) -> None:
    day = BANK.last
    # As with a real night's labels, which are too many to be sent to everybody.
    spark.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
    plan = built(known_for(months, day, day), day, day)._jdf.queryExecution().executedPlan()
    text = plan.toString()
    spark.conf.unset("spark.sql.autoBroadcastJoinThreshold")
    assert len(re.findall(r"Exchange hashpartitioning", text)) == 4, text
    assert "SinglePartition" not in text


def days_of(files: list[str]) -> set[date]:
    return {date.fromisoformat(re.findall(r"business_date=([0-9-]+)", file)[0]) for file in files}
