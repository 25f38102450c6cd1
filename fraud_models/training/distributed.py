"""Run a training in ranks that Spark starts. Only this module of the package imports Spark.

TorchDistributor is called with a function, because with a script it hides failures. It is never
used in local mode, because that returns the result of an arbitrary rank. It does not report why a
rank failed. Every rank therefore writes its traceback and last log lines to the run's folder, and
this module reads them. Not covered: after a failure TorchDistributor leaves files in temporary
folders of *other* machines; set TMPDIR of the executors to scratch space that is cleaned regularly.
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
from fraud_models.training.run_state import RankReport, active_ranks, clear_reports, rank_reports

GPU_PER_TASK = "spark.task.resource.gpu.amount"
# Executors of a cluster register within seconds; do not wait longer for more.
SLOT_WAIT_S = 30.0
SHOWN_LOG_LINES = 10


class TrainingFailed(FraudScoringError):
    """A rank failed or was killed."""


class TrainingHeld(FraudScoringError):
    """Another run is executing the same training."""

    exit_code = 5


def train_distributed(spark: SparkSession, run: TrainingRun, num_workers: int) -> dict[str, Any]:
    """Train in `num_workers` ranks, each in one Spark task (with a GPU, if tasks have one).

    Returns the summary of rank 0, see `loop.train`. To resume a failed run, call this again with
    the same `run_dir`.

    Raises:
        UsageError: Spark cannot run that many tasks at once; use fewer workers or more cores.
        TrainingHeld: ranks are active in the folder; the message shows their last log lines. Wait
            for them, or end them.
        TrainingFailed: a rank failed (its traceback is shown) or was killed (its last log lines
            are shown); fix the cause and start the same training again.
    """
    use_gpu = _check_resources(spark, num_workers)
    active = active_ranks(run.run_dir)
    if active:
        raise TrainingHeld(
            "The same training is already running:\n" + "\n".join(active),
            expected="no other run of this training.",
            remedy="wait until it ends; if it was stopped, end its processes, or wait a minute.",
        )
    clear_reports(run.run_dir)
    distributor = TorchDistributor(num_processes=num_workers, local_mode=False, use_gpu=use_gpu)
    # Without a GPU assigned by Spark, all ranks would use the first GPU of the machine.
    run = replace(run, use_gpu=use_gpu or num_workers == 1)
    try:
        summary = distributor.run(train, run)
    except Exception as error:
        raise _failure(rank_reports(run.run_dir, num_workers), run) from error
    finally:
        _remove_launcher_folders(rank_reports(run.run_dir, num_workers))
    reports = rank_reports(run.run_dir, num_workers)
    if not isinstance(summary, dict) or not all(report.finished for report in reports):
        raise _failure(reports, run)
    return summary


def _check_resources(spark: SparkSession, num_workers: int) -> bool:
    """Return whether each rank gets a GPU.

    Raises:
        UsageError: Spark would wait forever or fail with these settings; the message says which.
    """
    if num_workers < 1:
        raise _cannot_start(f"{num_workers} workers were requested", "request 1 or more")
    conf = spark.sparkContext.getConf()
    if conf.get("spark.dynamicAllocation.enabled", "false") == "true":
        raise _cannot_start(
            "dynamic allocation is on, so Spark cannot start all ranks together",
            "train in a separate application with spark.dynamicAllocation.enabled=false",
        )
    gpus = float(conf.get(GPU_PER_TASK, "0") or 0)
    if gpus > 1:
        raise _cannot_start(f"{GPU_PER_TASK} is {gpus:g}", "set it to 1: one rank uses one GPU")
    slots = _wait_for_slots(spark, num_workers)
    if slots < num_workers:
        raise _cannot_start(
            f"{num_workers} workers were requested, but Spark can run {slots} tasks at once",
            f"use --num-workers {max(slots, 1)}, or give Spark more cores"
            + (" and GPUs" if gpus else ""),
        )
    return gpus >= 1


def task_slots(spark: SparkSession) -> int:
    """Return how many tasks can run at once on the currently registered executors."""
    context = spark.sparkContext._jsc.sc()
    profile = context.resourceProfileManager().defaultResourceProfile()
    return int(context.maxNumConcurrentTasks(profile))


def _wait_for_slots(spark: SparkSession, required: int) -> int:
    """Return the number of task slots, after a short wait for executors to register."""
    deadline = time.monotonic() + SLOT_WAIT_S
    local = bool(spark.sparkContext._jsc.sc().isLocal())
    while True:
        slots = task_slots(spark)
        if slots >= required or local or time.monotonic() > deadline:
            return slots
        time.sleep(1.0)


def _cannot_start(reason: str, remedy: str) -> UsageError:
    return UsageError(
        f"The training cannot start: {reason}.",
        expected="as many free task slots as workers, for the whole training.",
        remedy=f"{remedy}.",
    )


def _failure(reports: list[RankReport], run: TrainingRun) -> TrainingFailed:
    """Return the failure with its likely cause: an error of a rank, else a rank without report."""
    remedy = "fix the cause and start the same training again; it resumes after its last epoch."
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
            f"rank {report.rank} of {len(reports)} was killed or never started; "
            f"its last log lines:\n{_last_lines(report)}"
            for report in silent
        ]
        return TrainingFailed(
            "The training stopped: " + "\n".join(parts),
            expected="every rank to finish.",
            remedy=f"look for kill -9 or out-of-memory kills on its machine; {remedy}",
        )
    lost = [report for report in reports if report.peer_lost]
    details = "\n".join(f"rank {report.rank}:\n{report.error}" for report in lost)
    return TrainingFailed(
        f"The training in {run.run_dir} stopped; every rank reports a lost peer. {details}",
        expected="every rank to finish.",
        remedy=f"check the network between the workers and the timeout ({run.timeout_s:g} s); "
        + remedy,
    )


def _last_lines(report: RankReport) -> str:
    return "".join(report.log.splitlines(keepends=True)[-SHOWN_LOG_LINES:]) or "(none)"


def _remove_launcher_folders(reports: list[RankReport]) -> None:
    """Remove the launcher's temporary folders on this machine, as the ranks recorded them."""
    for report in reports:
        for folder in report.scratch:
            shutil.rmtree(Path(folder), ignore_errors=True)
