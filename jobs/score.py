"""Score the transactions of one night, or of a backfill's nights, with a registered model.

Reads   features of the contexts of the nights, at the pinned version; the model that was resolved
        when scoring of the night first began
Writes  scores, staged; `publish` publishes them once gate 4 has passed
Fails   when there is no champion, or the features of a context are not those the model reads

Scoring is a map over partitions that are sorted by card and time. The model reads each card's
context once, in order. Many cards share a tensor, and memory is bounded by the batch. An iterator
pandas UDF over packed contexts was measured as an alternative
(`tests/benchmarks/scoring_paths.py`).

    fraud-scoring score --lake L --date 2018-08-08
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import reduce
from itertools import groupby

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from fraud_models.registry.mlflow_registry import CHAMPION, ModelVersion, Registry
from jobs.lake.dates import Dates
from jobs.lake.nights import Night
from jobs.lake.run_history import LATE_DAYS
from jobs.lake.tables import FEATURES_TABLE, SCORES
from jobs.lineage.provenance import lake_as_recorded
from jobs.models.contexts import read_scoring_inputs, score_contexts
from jobs.models.model_store import open_registry


def run(night: Night) -> None:
    """Score the nights; the scores stay staged until `publish`.

    Raises:
        InputMissing: there are no features or no champion, the checkpoint is damaged, or the
            features differ from those that the model was trained on.
    """
    night.require_finished("features")
    lake = night.lake
    with night.job("score") as run:
        registry = open_registry(lake)
        _resolve_models(night, registry)
        version = night.pin(FEATURES_TABLE.name)
        run.model_version = night.model_version
        run.versions_in = {FEATURES_TABLE.name: version}
        # A backfill sees late-arriving rows. A rerun of a night must not: it gives the same scores
        # again, although the newer version that it is pinned to holds rows that arrived since.
        run.figures[LATE_DAYS] = lake.settings.late_days if night.backfill else 0
        source = lake_as_recorded(lake, run)

        parts = []
        for dates, model in _dates_by_model(night.models, registry):
            scored = score_contexts(read_scoring_inputs(source, dates, version, model))
            parts.append(_as_table(scored, model, run.run_id))
        scores = reduce(DataFrame.unionByName, parts)

        run.rows["scores"] = lake.stage(scores, run.run_id, SCORES.name).count()


def _resolve_models(night: Night, registry: Registry) -> None:
    """Give each night without a model the champion; a later promotion does not change it."""
    undecided = set(night.dates.days) - set(night.models)
    if undecided:
        night.models |= dict.fromkeys(undecided, str(registry.resolve(CHAMPION).version))


def _dates_by_model(
    models: dict[date, str], registry: Registry
) -> Iterator[tuple[Dates, ModelVersion]]:
    """Yield each run of consecutive nights that one model scores, with that model."""
    for name, group in groupby(sorted(models), key=lambda day: models[day]):
        days = list(group)
        yield Dates(days[0], days[-1]), registry.resolve(name)


def _as_table(scored: DataFrame, model: ModelVersion, run_id: str) -> DataFrame:
    """Add the columns that say where a score came from; return the table's columns in order."""
    return scored.select(
        "*",
        F.lit(str(model.version)).alias("model_version"),
        F.lit(run_id).alias("run_id"),
        F.current_timestamp().alias("scored_at"),
    ).select(*SCORES.column_names)


def staged_scores_unusable(night: Night) -> bool:
    """Return whether staged scores are gone before `publish`, or belong to other nights as well.

    A backfill that was stopped leaves the scores of all its nights in one staging folder.
    """
    if "score" not in night.finished or "publish" in night.finished:
        return False
    scored = night.finished["score"]
    return scored.dates != night.dates or not night.lake.staged(scored.run_id, SCORES.name)
