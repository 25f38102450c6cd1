"""Measure the cost of one night's features for long histories, and against no history.

python tests/benchmarks/feature_cost.py --num-rows 1000000 --only nights
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from feature_lakes import fill_lake, inputs_of_nights
from feature_rows import LABEL_DELAY_DAYS, SECONDS_PER_DAY, Bank, read_bank
from feature_timing import medians, run

from feature_defs.catalogue import FEATURES
from feature_defs.point_in_time.compiler import compile_features
from feature_defs.point_in_time.labels_as_of import FeatureInputs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

SHORT_DAYS, LONG_DAYS = 60, 360


def long_bank(night_rows: int) -> Bank:
    """Return a bank of 360 days."""
    return Bank(night_rows * LONG_DAYS, LONG_DAYS)


def lake_of(spark: SparkSession, folder: Path, bank: Bank, num_days: int) -> Lake:
    """Build a lake with the last `num_days` days of a bank."""
    from pyspark.sql import functions as F

    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    lake = Lake(spark, load_settings(None, {"lake": str(folder / f"lake-{num_days}")}))
    lake.create()
    inputs = read_bank(spark, str(folder / "long"))
    days = F.col("business_date") > F.date_sub(F.lit(bank.last), num_days)
    kept = FeatureInputs(inputs.transactions.where(days), inputs.labels.where(days), inputs.policy)
    fill_lake(lake, kept, num_files=8)
    return lake


def one_night(lake: Lake, day: date, select: Callable[[FeatureInputs], FeatureInputs]) -> None:
    """Compute the features of a night from a selection of what the job reads."""
    inputs = select(inputs_of_nights(lake, day, day))
    run(compile_features(inputs, day, day, lake.settings.late_days))


def nights(spark: SparkSession, folder: Path, num_rows: int) -> dict[str, float]:
    """Compare one night (a hundredth of the rows) with long and short history, and with none."""
    from pyspark.sql import functions as F

    bank = long_bank(num_rows // 100)
    bank.write(spark, str(folder / "long"))
    long, short = (lake_of(spark, folder, bank, days) for days in (LONG_DAYS, SHORT_DAYS))

    def all_days(inputs: FeatureInputs) -> FeatureInputs:
        return inputs

    def no_history(inputs: FeatureInputs) -> FeatureInputs:
        return only(inputs, [0])

    def window_ends(inputs: FeatureInputs) -> FeatureInputs:
        windows = [feature.window for feature in FEATURES.values() if feature.window]
        ends = {days for w in windows for days in (w.delay_s // SECONDS_PER_DAY, w.lookback_days)}
        return only(inputs, sorted({0, *ends}))

    def only(inputs: FeatureInputs, days_before: list[int]) -> FeatureInputs:
        days = [bank.last - timedelta(days=days) for days in days_before]
        label_days = [day + timedelta(days=LABEL_DELAY_DAYS) for day in days]
        transactions = inputs.transactions.where(F.col("business_date").isin(days))
        labels = inputs.labels.where(F.col("business_date").isin(label_days))
        return FeatureInputs(transactions, labels, inputs.policy)

    seconds = medians(
        {
            f"a night, {LONG_DAYS} days in the lake": lambda: one_night(long, bank.last, all_days),
            f"a night, {SHORT_DAYS} days in the lake": lambda: one_night(
                short, bank.last, all_days
            ),
            "the night without history": lambda: one_night(short, bank.last, no_history),
            "only days with window ends": lambda: one_night(short, bank.last, window_ends),
        }
    )
    in_long, in_short, without_history, without_whole_days = seconds.values()
    return {
        "history_ratio": in_long / in_short,
        "lookback_ratio": in_short / without_history,
        "lookback_ratio_bound": without_whole_days / without_history,
    }
