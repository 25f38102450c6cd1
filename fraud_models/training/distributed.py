"""Runs the training in ranks that Spark starts: the one file here with Spark.

TorchDistributor is used in the one way that reports failure: with a function (a file's failure is
swallowed) and never in its local mode (which returns the result of any rank). It does not say why
a rank failed, so every rank leaves its traceback and last lines in the run's folder, and they are
read here. Not covered: files that TorchDistributor leaves behind on *other* machines' temporary
folders after a failure; point TMPDIR of the executors at scratch space that is swept.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from feature_defs.errors import FraudScoringError, UsageError
from fraud_models.training.loop import TrainingRun, train
from fraud_models.training.run_state import RankReport, clear_reports, rank_reports, ranks_at_work

GPU_PER_TASK = "spark.task.resource.gpu.amount"
# Executors of a cluster register within seconds; more workers than that are not coming.
SLOT_WAIT_S = 30.0
SHOWN_LOG_LINES = 10


class TrainingFailed(FraudScoringError):
    """A rank failed or was killed."""


class TrainingHeld(FraudScoringError):
    """Another run is at work on the same training."""

    exit_code = 5


def train_distributed(spark: SparkSession, run: TrainingRun, num_workers: int) -> dict[str, Any]:
    """Train in `num_workers` ranks, one Spark task (and GPU, where tasks have one) each.

    Returns the summary of rank 0, see `training.train`. A run that failed is resumed by calling
    this again with the same `run_dir`.

    Raises:
        UsageError: Spark cannot run that many tasks at once.
        TrainingHeld: ranks are at work in the folder already; their lines are shown.
        TrainingFailed: names the rank that failed, with its own traceback, or the rank that was
            killed, with its last log lines.
    """
    use_gpu = _check_resources(spark, num_workers)
    busy = ranks_at_work(run.run_dir)
    if busy:
        raise TrainingHeld(
            "The same training is going on already:\n" + "\n".join(busy),
            expected="no other run of it.",
            remedy="wait for it; when it was stopped, end that process, or wait a minute.",
        )
    clear_reports(run.run_dir)
    distributor = TorchDistributor(num_processes=num_workers, local_mode=False, use_gpu=use_gpu)
    # Ranks that Spark gives no GPU of their own would all take the first they see.
    run = replace(run, use_gpu=use_gpu or num_workers == 1)
    try:
        summary = distributor.run(train, run)
    except Exception as error:
        raise _explain(rank_reports(run.run_dir, num_workers), run) from error
    finally:
        _sweep(rank_reports(run.run_dir, num_workers))
    reports = rank_reports(run.run_dir, num_workers)
    if not isinstance(summary, dict) or not all(report.finished for report in reports):
        raise _explain(reports, run)
    return summary


def _check_resources(spark: SparkSession, num_workers: int) -> bool:
    """Whether ranks get a GPU each; refuses what Spark would wait for or break on."""
    if num_workers < 1:
        raise _unusable(f"{num_workers} workers were asked for", "give 1 or more")
    conf = spark.sparkContext.getConf()
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        raise _unusable(
            "dynamic allocation is on, and Spark refuses to start ranks together under it",
            "train in an application of its own with spark.dynamicAllocation.enabled=false",
        )
    gpus = float(conf.get(GPU_PER_TASK, "0") or 0)
    if gpus > 1:
        raise _unusable(f"{GPU_PER_TASK} is {gpus:g}", "set it to 1: one rank uses one GPU")
    slots = _slots(spark, num_workers)
    if slots < num_workers:
        raise _unusable(
            f"{num_workers} workers were asked for, but Spark can run {slots} tasks at once",
            f"give --num-workers {max(slots, 1)}, or Spark more cores"
            + (" and GPUs" if gpus else ""),
        )
    return gpus >= 1


def task_slots(spark: SparkSession) -> int:
    """Tasks that can run at the same time on the executors that are there now."""
    context = spark.sparkContext._jsc.sc()
    profile = context.resourceProfileManager().defaultResourceProfile()
    return int(context.maxNumConcurrentTasks(profile))


def _slots(spark: SparkSession, wanted: int) -> int:
    """Slots, waiting a little for executors that register."""
    deadline = time.monotonic() + SLOT_WAIT_S
    local = bool(spark.sparkContext._jsc.sc().isLocal())
    while True:
        slots = task_slots(spark)
        if slots >= wanted or local or time.monotonic() > deadline:
            return slots
        time.sleep(1.0)


def _unusable(found: str, remedy: str) -> UsageError:
    return UsageError(
        f"The training cannot start: {found}.",
        expected="as many free task slots as workers, fixed while the training runs.",
        remedy=f"{remedy}.",
    )


def _explain(reports: list[RankReport], run: TrainingRun) -> TrainingFailed:
    """Who is to blame: an error of its own first, then a rank that fell silent."""
    remedy = "mend the cause and start the same training again: it goes on after its last epoch."
    for report in reports:
        if report.error is not None and not report.peer_lost:
            return TrainingFailed(
                f"Rank {report.rank} of {len(reports)} failed:\n{report.error}",
                expected="every rank to finish.",
                remedy=remedy,
            )
    silent = [report for report in reports if report.error is None and not report.finished]
    if silent:
        parts = [
            f"rank {report.rank} of {len(reports)} was killed from outside or never started; "
            f"its last lines:\n{_last_lines(report)}"
            for report in silent
        ]
        return TrainingFailed(
            "The training stopped: " + "\n".join(parts),
            expected="every rank to finish.",
            remedy=f"look for kill -9 or out-of-memory kills on that machine; {remedy}",
        )
    lost = [report for report in reports if report.peer_lost]
    details = "\n".join(f"rank {report.rank}:\n{report.error}" for report in lost)
    return TrainingFailed(
        f"The training in {run.run_dir} stopped, and no rank knows why. {details}",
        expected="every rank to finish.",
        remedy=f"check the network between the workers and the timeout ({run.timeout_s:g} s); "
        + remedy,
    )


def _last_lines(report: RankReport) -> str:
    return "".join(report.log.splitlines(keepends=True)[-SHOWN_LOG_LINES:]) or "(none)"


def _sweep(reports: list[RankReport]) -> None:
    """Remove the temporary folders that the launcher left on this machine, by the ranks' logs."""
    for report in reports:
        for folder in report.scratch:
            shutil.rmtree(Path(folder), ignore_errors=True)
