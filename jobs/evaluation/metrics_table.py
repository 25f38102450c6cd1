"""Append rows to the table `metrics`: one per candidate and metric of an evaluation or backtest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.local_rows import local_rows
from jobs.lake.runs import Run, now
from jobs.lake.tables import METRICS


@dataclass(frozen=True)
class Metric:
    """A metric of a candidate, with its 95 % interval if it has one."""

    candidate: str
    name: str
    value: float
    interval: tuple[float, float] | None = None


def append_metrics(lake: Lake, run: Run, dates: Dates, k: int, metrics: Iterable[Metric]) -> None:
    """Append the metrics of these nights and record the new table version in the run."""
    moment = now()
    rows = [
        (
            run.run_id,
            metric.candidate,
            dates.first,
            dates.last,
            f"cp_at_{k}" if metric.name == "cp_at_k" else metric.name,
            float(metric.value),
            *(metric.interval or (None, None)),
            moment,
        )
        for metric in metrics
    ]
    frame = local_rows(lake.spark, rows, METRICS.ddl)
    run.versions_out[METRICS.name] = lake.append(METRICS, frame, run.run_id)
