"""The number of cards over the alert threshold, before the alert budget caps the alerts.

The budget caps the number of alerts of a night. So this number cannot show that a model, or the
amounts that it read, are wrong. The number of cards over the threshold can, and it is known before
scores are published.
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
    """Count, for each night with scores, the cards over the threshold of the model that scored.

    Args:
        lake: the lake, with the alert budget in its settings.
        scores: staged scores.
        models: the model versions expected in the scores; scores of other versions do not count.

    Raises:
        InputMissing: a model is missing from the registry, or damaged.
    """
    registry = open_registry(lake)
    passes = F.lit(False)
    for version in sorted(set(models)):
        calibration = read_checkpoint(registry.resolve(version)).calibration
        assert calibration is not None, "a model scores only when it is calibrated"
        threshold = calibration.threshold_for(lake.settings.alert_budget)
        is_of_version = F.col("model_version") == F.lit(version)
        passes = passes | (is_of_version & (F.col("score") >= F.lit(threshold)))
    cards = F.count_distinct(F.when(passes, F.col("card_id"))).alias("cards")
    counts = scores.groupBy("business_date").agg(cards).collect()
    return {row["business_date"]: row["cards"] for row in counts}


def cards_over_threshold_history(lake: Lake, first: date) -> dict[date, int]:
    """Return the recorded counts of earlier nights that were published with the same budget."""
    earlier = Dates(first - timedelta(days=MAX_HISTORY_NIGHTS), first - timedelta(days=1))
    history = {}
    for day, jobs in night_records(lake, earlier).items():
        figures = jobs["publish"].figures if "publish" in jobs else {}
        if figures.get("alert_budget") == lake.settings.alert_budget:
            history[day] = int(figures["cards_over_threshold"].get(str(day), 0))
    return history
