"""Score one night of transactions with the champion.

Reads   features[the night's context] at the night's pin, the model the night resolved first
Writes  scores, staged: only `publish` shows them, once gate 4 has passed
Fails   when there is no champion, or the context's columns are not those of the model

The model passes over each card's context once, causally, as a map over partitions sorted by
card and time: many cards in one tensor, memory bounded by the batch. The iterator pandas UDF
over packed contexts was measured beside it (`tests/benchmarks/scoring_paths.py`).

    fraud-scoring score --lake L --date 2018-08-08
"""

from __future__ import annotations

from datetime import date
from functools import reduce
from itertools import groupby

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from fraud_models.registry.mlflow_registry import CHAMPION, ModelVersion
from jobs.lake.dates import Dates
from jobs.lake.nights import Night
from jobs.lake.run_history import LATE_DAYS
from jobs.lake.tables import FEATURES_TABLE, SCORES
from jobs.lineage.provenance import lake_as_recorded
from jobs.models.contexts import score_nights
from jobs.models.model_store import open_registry


def run(night: Night) -> None:
    """Score a night; the result stays in staging until it is published.

    Raises:
        InputMissing: no features, no champion, a damaged checkpoint, or columns that differ.
    """
    night.require_finished("features")
    lake, dates = night.lake, night.dates
    with night.job("score") as run:
        # Resolved once per night: a later promotion does not change a night that was begun.
        for day in set(dates.days) - set(night.models):
            night.models[day] = str(open_registry(lake).resolve(CHAMPION).version)
        run.model_version = night.model_version
        version = night.pin(FEATURES_TABLE.name)
        run.versions_in[FEATURES_TABLE.name] = version
        # A backfill may see what later deliveries have brought. A night that is only run again may
        # not, although its features now stand in a version that has those: the same night again.
        run.figures[LATE_DAYS] = lake.settings.late_days if night.backfill else 0
        seen = lake_as_recorded(lake, run)
        parts = []
        for nights, name in _by_model(night.models):
            model = open_registry(lake).resolve(name)
            scored = score_nights(seen, nights, version, model)
            parts.append(_as_table(scored, model, run.run_id))
        scored = reduce(DataFrame.unionByName, parts)
        run.rows["scores"] = lake.stage(scored, run.run_id, SCORES.name).count()


def _by_model(models: dict[date, str]) -> list[tuple[Dates, str]]:
    """Stretches of nights that one model scores."""
    stretches = []
    for name, days in groupby(sorted(models), key=lambda day: models[day]):
        found = list(days)
        stretches.append((Dates(found[0], found[-1]), name))
    return stretches


def _as_table(scored: DataFrame, model: ModelVersion, run_id: str) -> DataFrame:
    """With the columns that say where a score came from, in the table's order."""
    return scored.select(
        "*",
        F.lit(str(model.version)).alias("model_version"),
        F.lit(run_id).alias("run_id"),
        F.current_timestamp().alias("scored_at"),
    ).select(*SCORES.column_names)


def staged_scores_unusable(night: Night) -> bool:
    """Whether staged scores were lost before they could be published, or are of other nights too.

    A backfill that was stopped leaves those of all its nights in one place.
    """
    if "score" not in night.finished or "publish" in night.finished:
        return False
    scored = night.finished["score"]
    return scored.dates != night.dates or not night.lake.staged(scored.run_id, SCORES.name)
