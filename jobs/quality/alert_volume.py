"""How many cards would be alerts, were there no budget: known before scores are published.

The budget caps a night's alerts, so their number cannot show that a model, or the amounts it
read, went wrong; the number of cards over the threshold can.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.run_history import night_records
from jobs.models.model_store import open_registry, read_checkpoint
from jobs.quality.expectations import MAX_HISTORY_NIGHTS


def cards_over_threshold(lake: Lake, scores: DataFrame, models: Iterable[str]) -> dict[date, int]:
    """Cards that pass the threshold of the model that scored them, of each night with scores.

    `models` are the versions that were to score; a score of any other passes nowhere.

    Raises:
        InputMissing: a model is not in the registry, or damaged.
    """
    registry = open_registry(lake)
    passes = F.lit(False)
    for version in sorted(set(models)):
        calibration = read_checkpoint(registry.resolve(version)).calibration
        assert calibration is not None, "a model scores only when it is calibrated"
        threshold = calibration.threshold_for(lake.settings.alert_budget)
        own = F.col("model_version") == F.lit(version)
        passes = passes | (own & (F.col("score") >= F.lit(threshold)))
    cards = F.count_distinct(F.when(passes, F.col("card_id"))).alias("cards")
    counts = scores.groupBy("business_date").agg(cards).collect()
    return {row["business_date"]: row["cards"] for row in counts}


def cards_over_threshold_history(lake: Lake, first: date) -> dict[date, int]:
    """The same of the nights before, as their publications recorded it under this budget."""
    before = Dates(first - timedelta(days=MAX_HISTORY_NIGHTS), first - timedelta(days=1))
    found = {}
    for day, jobs in night_records(lake, before).items():
        figures = jobs["publish"].figures if "publish" in jobs else {}
        if figures.get("alert_budget") == lake.settings.alert_budget:
            found[day] = int(figures["cards_over_threshold"].get(str(day), 0))
    return found
