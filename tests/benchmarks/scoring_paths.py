"""Compare two ways to score a night's contexts, by turns, on the same rows and the same model.

`stream`: a map over partitions sorted by card and time, as in `score`.
`packed`: Spark collects each context into arrays, an iterator pandas UDF scores them, and the
scores are exploded to rows.

Both must return the same errors. The last line is one JSON object with the ratio of the medians.

    python tests/benchmarks/scoring_paths.py --lake L --date 2018-08-08
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pandas as pd
import typer
from benchmark_lake import LakeFolder, dates_between, open_lake
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

if TYPE_CHECKING:
    from jobs.lake.delta_io import Lake

NUM_RUNS = 5
CONTEXTS_PER_BATCH = 512


def packed_scores(stream: DataFrame, model: Any, columns: tuple[str, ...]) -> DataFrame:
    """Return `transaction_id, reconstruction_error` computed by the iterator pandas UDF."""
    from fraud_models.registry.scorer_cache import cached_scorer
    from fraud_models.sequences.event_batch import TARGET, EventBatch

    @pandas_udf("array<double>")
    def errors_of(batches: Iterator[pd.DataFrame]) -> Iterator[pd.Series]:
        scorer = cached_scorer(model.uri, model.sha256)
        for rows in batches:
            errors: list[Any] = []
            for start in range(0, len(rows), CONTEXTS_PER_BATCH):
                part = rows.iloc[start : start + CONTEXTS_PER_BATCH]
                lengths = [len(roles) for roles in part["roles"]]
                batch = EventBatch.from_packed(
                    [np.concatenate(v).astype(np.float32).tobytes() for v in part["values"]],
                    [np.asarray(r, dtype=np.uint8).tobytes() for r in part["roles"]],
                    len(columns),
                )
                flat = np.full((len(part), max(lengths)), np.nan)
                flat[batch.roles == TARGET] = scorer.score_events(batch).reconstruction_error
                errors += [flat[n, :length] for n, length in enumerate(lengths)]
            yield pd.Series(errors)

    event = F.struct(
        "event_time",
        "transaction_id",
        "role",
        F.array(*(F.col(name).cast("float") for name in columns)).alias("values"),
    )
    contexts = (
        stream.groupBy("card_id", "period")
        .agg(F.sort_array(F.collect_list(event)).alias("events"))
        .where(F.exists("events", lambda item: item["role"] == 1))
    )
    scored = contexts.withColumn(
        "errors",
        errors_of(
            F.struct(F.col("events.values").alias("values"), F.col("events.role").alias("roles"))
        ),
    )
    zipped = F.arrays_zip(
        F.col("events.transaction_id").alias("transaction_id"),
        F.col("events.role").alias("role"),
        F.col("errors").alias("reconstruction_error"),
    )
    rows = scored.select(F.inline(zipped)).where("role = 1")
    return rows.select("transaction_id", "reconstruction_error")


def compare_paths(lake: Lake, day: str) -> dict[str, Any]:
    """Score a night both ways; return the largest difference and the median seconds."""
    from fraud_models.scoring.scorer import score_stream
    from jobs.lake.tables import FEATURES_TABLE
    from jobs.models.contexts import (
        SCORED_FIELDS,
        apply_stream,
        context_dates,
        context_stream,
    )
    from jobs.models.executor_functions import ModelStream, StoredModel
    from jobs.models.model_store import open_registry, read_checkpoint

    model = open_registry(lake).resolve("champion")
    config = read_checkpoint(model).config
    night = dates_between(day, day)
    dates = context_dates(night, config)
    features = lake.read(FEATURES_TABLE).where(F.expr(dates.sql)).persist()
    features.count()
    stream = context_stream(features, night, config, role=F.lit(1))
    function = ModelStream(score_stream, StoredModel(model.uri, model.sha256))
    paths: dict[str, Callable[[], DataFrame]] = {
        "stream": lambda: apply_stream(stream, function, SCORED_FIELDS).select(
            "transaction_id", "reconstruction_error"
        ),
        "packed": lambda: packed_scores(stream, model, config.columns),
    }
    both = paths["stream"]().join(
        paths["packed"]().withColumnRenamed("reconstruction_error", "other"), "transaction_id"
    )
    difference = F.abs(F.col("reconstruction_error") - F.col("other"))
    compared = both.agg(
        F.count("*").alias("rows"),
        F.max(difference / F.greatest(F.lit(1.0), F.abs("other"))).alias("worst"),
    ).collect()[0]
    medians = median_seconds(paths)
    return {
        "rows": compared["rows"],
        "worst_relative_difference": compared["worst"],
        "median_seconds": medians,
        "packed_over_stream": round(medians["packed"] / medians["stream"], 3),
    }


def median_seconds(paths: dict[str, Callable[[], DataFrame]]) -> dict[str, float]:
    """Return the median seconds of each path, run by turns."""
    seconds: dict[str, list[float]] = {name: [] for name in paths}
    for _ in range(NUM_RUNS):
        for name, path in paths.items():
            started = time.monotonic()
            path().write.format("noop").mode("overwrite").save()
            seconds[name].append(time.monotonic() - started)
    return {name: round(statistics.median(values), 3) for name, values in seconds.items()}


def main(
    lake: LakeFolder,
    day: Annotated[str, typer.Option("--date", help="A night with features.")],
) -> None:
    """Time both paths; exit with 1 when their errors differ."""
    with open_lake(lake) as opened:
        result = compare_paths(opened, day)
    sys.stdout.write(json.dumps(result) + "\n")
    agree = result["rows"] > 0 and result["worst_relative_difference"] <= 1e-5
    raise typer.Exit(0 if agree else 1)


if __name__ == "__main__":
    typer.run(main)
