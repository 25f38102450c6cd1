"""Measure drift: compare a night with the 28 nights before it.

Reads   features, scores, transactions at the night's pins; current alerts and nights
Writes  only its record in `runs`: metrics, and a gate that can only warn

Drift is the population stability index (`jobs/quality/drift.py`). Scores are compared only with
nights that the same model scored. With fewer than 7 such nights the status is "not applicable",
which does not count as passed. The day of the week is not compared, because a night has only one.

Structure of the record's `figures`, which the report reads:

    reference    {first, last}                          dates, without the night itself
    features     {status, why, num_nights, columns: {name: {psi, level}}}
    scores       the same for `score` and `ranking_value`
    calibration  {status, why, levels: [{above, expected_share, observed_share, num_transactions}]}
    late         {num_rows, by_event_date: {date: rows}}   only events of published nights
    alerts       {status, why, num_alerts, mean_before, num_nights}

`status` is "measured" or "not applicable", `level` "steady", "shifting" (PSI from 0.1) or
"shifted" (above 0.25).

    fraud-scoring monitor --lake L --date 2018-08-08
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.catalogue import FEATURES
from feature_defs.errors import UsageError
from feature_defs.feature import Kind
from jobs.lake.dates import Dates
from jobs.lake.nights import Night
from jobs.lake.tables import ALERTS, FEATURES_TABLE, NIGHTS, SCORES, TRANSACTIONS, Table
from jobs.quality.drift import (
    MEASURED,
    MIN_REFERENCE_NIGHTS,
    NOT_APPLICABLE,
    DriftInput,
    drift,
    not_enough_nights,
)
from jobs.quality.suites.monitor import run_checks

HISTORY_NIGHTS = 28
CALIBRATION_LEVELS = (0.9, 0.99, 0.999)


def run(night: Night) -> None:
    """Measure the drift of a published night and record the metrics in `runs`.

    Raises:
        InputMissing: the night has no alerts yet.
    """
    if night.dates.num_nights != 1:
        raise UsageError(
            f"`monitor` compares one night with those before it, but {night.dates} are several.",
            expected="one night.",
            remedy="run `fraud-scoring monitor --date D` for one night at a time.",
        )
    night.require_finished("alerts")
    with night.job("monitor") as record:
        for table in (FEATURES_TABLE, SCORES, TRANSACTIONS):
            record.versions_in[table.name] = night.pin(table.name)
        before = Dates(
            night.dates.first - timedelta(days=HISTORY_NIGHTS),
            night.dates.first - timedelta(days=1),
        )
        scores = _history(night, SCORES)
        published = _published_nights(night, before)
        metrics = {
            "reference": {"first": str(before.first), "last": str(before.last)},
            "features": _feature_drift(night),
            "scores": _score_drift(night, scores),
            "calibration": _calibration(scores.where(night.dates.sql)),
            "late": _late_rows(night, published),
            "alerts": _alert_counts(night, published),
        }
        record.figures = metrics
        record.gates.append(run_checks(metrics).as_record())


def _history(night: Night, table: Table, *, pinned: bool = True) -> DataFrame:
    """Return a table's rows of the night and of the 28 nights before it."""
    day = night.dates.first
    version = night.pin(table.name) if pinned else None
    dates = Dates(day - timedelta(days=HISTORY_NIGHTS), day)
    return night.lake.read(table, version).where(dates.sql)


def _feature_drift(night: Night) -> dict[str, Any]:
    frame = _history(night, FEATURES_TABLE)
    columns = [
        name
        for name, feature in FEATURES.items()
        if feature.kind is not Kind.DAY_OF_WEEK and name in frame.columns
    ]
    return drift(DriftInput(frame, night.dates.first, columns, "earlier nights have features"))


def _score_drift(night: Night, scores: DataFrame) -> dict[str, Any]:
    frame = scores.where(F.col("model_version") == F.lit(night.model_version))
    columns = ("score", "ranking_value")
    return drift(
        DriftInput(frame, night.dates.first, columns, "earlier nights were scored by this model")
    )


# -- calibration, late rows, alerts --------------------------------------------------------------


def _calibration(scores: DataFrame) -> dict[str, Any]:
    """Return observed and expected shares of high scores; calibrated scores are uniform."""
    row = scores.agg(
        F.count("*").alias("all"),
        *(
            F.count_if(F.col("score") > F.lit(level)).alias(str(level))
            for level in CALIBRATION_LEVELS
        ),
    ).collect()[0]
    if not row["all"]:
        return {"status": NOT_APPLICABLE, "why": "The night has no scores.", "levels": []}
    levels = [
        {
            "above": level,
            "expected_share": round(1 - level, 9),
            "observed_share": row[str(level)] / row["all"],
            "num_transactions": row[str(level)],
        }
        for level in CALIBRATION_LEVELS
    ]
    return {"status": MEASURED, "why": "", "num_scores": row["all"], "levels": levels}


def _published_nights(night: Night, before: Dates) -> set[date]:
    """Return the earlier nights that `alerts` has finished, with or without alerts."""
    has_alerts = F.col("jobs")["alerts"].isNotNull()
    nights = night.lake.read(NIGHTS).where(before.sql).where(has_alerts)
    rows = nights.select("business_date").collect()
    return {row["business_date"] for row in rows}


def _late_rows(night: Night, published: set[date]) -> dict[str, Any]:
    """Count the late rows: those whose event belongs to a night published without them."""
    event_date = F.to_date("event_time").alias("event_date")
    rows = (
        night.lake.read(TRANSACTIONS, night.pin(TRANSACTIONS.name))
        .where(night.dates.sql)
        .groupBy(event_date)
        .count()
        .orderBy("event_date")
        .collect()
    )
    by_date = {
        str(row["event_date"]): row["count"] for row in rows if row["event_date"] in published
    }
    return {"num_rows": sum(by_date.values()), "by_event_date": by_date}


def _alert_counts(night: Night, published: set[date]) -> dict[str, Any]:
    """Return the night's number of alerts and the mean over the published nights before it."""
    rows = _history(night, ALERTS, pinned=False).groupBy("business_date").count().collect()
    per_night = {row["business_date"]: row["count"] for row in rows}
    before = [per_night.get(day, 0) for day in published]
    metrics = {
        "num_alerts": per_night.get(night.dates.first, 0),
        "mean_before": sum(before) / len(before) if before else None,
        "num_nights": len(before),
    }
    if len(before) < MIN_REFERENCE_NIGHTS:
        return {**not_enough_nights(len(before), "earlier nights have alerts"), **metrics}
    return {"status": MEASURED, "why": "", **metrics}
