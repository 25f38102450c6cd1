"""Simulate a bank: transactions, delayed labels, and frauds whose cause is known.

Generated in Spark from a seed, at any size: nothing is collected, nothing is joined, and each of
the three tables is shuffled once, to have few files: one per date, more when a date has millions
of rows. The payments are computed anew for each table, which is cheaper than keeping them: two
cores make 85,000 transactions a second, their labels included. The same plan gives the same rows
however the work is split.

Writes  OUT/transactions, OUT/labels (by business_date), OUT/truth, OUT/_complete/<date>
Fails   when OUT holds something else, or another bank

    fraud-scoring simulate --out ./bank --num-cards 400 --days 75 --seed 7
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.simulation.cards import MEAN_DAILY_PAYMENTS
from jobs.simulation.deliveries import delivered_payments, labels, transactions, truth
from jobs.simulation.folder import Folder
from jobs.simulation.plan import SimulationPlan

__all__ = ["SimulationPlan", "simulate"]

ROWS_PER_FILE = 2_000_000
# Share of payments that are frauds, with room above what the default rates give.
MOST_FRAUDS = 0.01


def simulate(spark: SparkSession, plan: SimulationPlan) -> None:
    """Write a bank; what an earlier run wrote of the same bank is replaced.

    Raises:
        UsageError: the folder holds something that `simulate` did not make, or another bank.
    """
    folder = Folder(plan)
    folder.claim()
    payments = delivered_payments(_session_of_our_own(spark), plan)
    _write_by_date(transactions(payments, plan), plan, f"{folder.uri}/transactions")
    _write_by_date(labels(payments, plan), plan, f"{folder.uri}/labels")
    _write_truth(truth(payments), plan, f"{folder.uri}/truth")
    folder.mark_complete()


def _session_of_our_own(spark: SparkSession) -> SparkSession:
    """The same Spark with settings that shall not leak into the caller's session."""
    ours = spark.newSession()
    # A row's arithmetic is one long method; Java does not compile those above 8,000 bytes, and
    # Spark's other way of generating code then makes rows twice as fast.
    ours.conf.set("spark.sql.codegen.hugeMethodLimit", "8000")
    # Standard Parquet timestamps, which others than Spark can read too.
    ours.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    return ours


def _write_by_date(frame: DataFrame, plan: SimulationPlan, path: str) -> None:
    """Replace a table, with one file per date or per `ROWS_PER_FILE` rows of it."""
    files_per_date = 1 + int(plan.num_cards * MEAN_DAILY_PAYMENTS) // ROWS_PER_FILE
    piece = F.pmod(F.xxhash64("transaction_id"), F.lit(files_per_date))
    (
        frame.repartition("business_date", piece)
        .write.mode("overwrite")
        # A session may overwrite partition by partition, which would leave an older bank's days.
        .option("partitionOverwriteMode", "static")
        .partitionBy("business_date")
        .parquet(path)
    )


def _write_truth(frame: DataFrame, plan: SimulationPlan, path: str) -> None:
    """Replace the truth; frauds are few, so one file does until the bank is very large."""
    payments = plan.num_cards * plan.num_days * MEAN_DAILY_PAYMENTS
    num_files = 1 + int(payments * MOST_FRAUDS) // ROWS_PER_FILE
    frame.repartition(num_files, "transaction_id").write.mode("overwrite").parquet(path)
