"""What features of one night cost, beside its history and beside the night's rows alone."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from feature_lakes import fill, known_for
from feature_rows import LABEL_DELAY_DAYS, Bank, knowledge_at
from feature_timing import medians, run

from feature_defs.catalogue import FEATURES
from feature_defs.point_in_time.compiler import compile_features
from feature_defs.point_in_time.labels_as_of import FeatureInputs

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.delta_io import Lake

SHORT_DAYS, LONG_DAYS = 60, 360


def long_bank(night_rows: int) -> Bank:
    """A bank of many days."""
    return Bank(night_rows * LONG_DAYS, LONG_DAYS)


def lake_of(spark: SparkSession, place: Path, bank: Bank, num_days: int) -> Lake:
    """A lake that holds so many days up to the same last one."""
    from pyspark.sql import functions as F

    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings

    lake = Lake(spark, load_settings(None, {"lake": str(place / f"lake-{num_days}")}))
    lake.create()
    known = knowledge_at(spark, str(place / "long"))
    days = F.col("business_date") > F.date_sub(F.lit(bank.last), num_days)
    kept = FeatureInputs(known.transactions.where(days), known.labels.where(days), known.policy)
    fill(lake, kept, num_files=8)
    return lake


def one_night(lake: Lake, day: date, known: Callable[[FeatureInputs], FeatureInputs]) -> None:
    """Features of a night, read as the job reads it."""
    read = known(known_for(lake, day, day))
    run(compile_features(read, day, day, lake.settings.late_days))


def nights(spark: SparkSession, place: Path, num_rows: int) -> dict[str, float]:
    """One night of a hundredth of the rows beside its history, and beside its own rows."""
    from pyspark.sql import functions as F

    bank = long_bank(num_rows // 100)
    bank.write(spark, str(place / "long"))
    long, short = (lake_of(spark, place, bank, days) for days in (LONG_DAYS, SHORT_DAYS))

    def whole(known: FeatureInputs) -> FeatureInputs:
        return known

    def alone(known: FeatureInputs) -> FeatureInputs:
        return only(known, [0])

    def ends_of_windows(known: FeatureInputs) -> FeatureInputs:
        windows = [feature.window for feature in FEATURES.values() if feature.window]
        ends = {days for w in windows for days in (w.delay_days, w.lookback_days)}
        return only(known, sorted({0, *ends}))

    def only(known: FeatureInputs, days_before: list[int]) -> FeatureInputs:
        days = [bank.last - timedelta(days=days) for days in days_before]
        judged = [day + timedelta(days=LABEL_DELAY_DAYS) for day in days]
        transactions = known.transactions.where(F.col("business_date").isin(days))
        labels = known.labels.where(F.col("business_date").isin(judged))
        return FeatureInputs(transactions, labels, known.policy)

    taken = medians(
        {
            f"a night, {LONG_DAYS} days in the lake": lambda: one_night(long, bank.last, whole),
            f"a night, {SHORT_DAYS} days in the lake": lambda: one_night(short, bank.last, whole),
            "the night's rows alone": lambda: one_night(short, bank.last, alone),
            "whole days for nothing": lambda: one_night(short, bank.last, ends_of_windows),
        }
    )
    in_long, in_short, by_itself, without_whole_days = taken.values()
    return {
        "history_ratio": in_long / in_short,
        "lookback_ratio": in_short / by_itself,
        "lookback_ratio_bound": without_whole_days / by_itself,
    }
