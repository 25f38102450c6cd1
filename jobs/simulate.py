"""Simulate a bank: transactions, delayed labels, and frauds whose cause is known.

Spark generates the rows from a seed, at any size, without `collect` and without a join. Each of the
three tables is shuffled once to have few files: one per date, more when a date has millions of
rows. Payments are computed again for each table, which is cheaper than storing them. The same plan
gives the same rows for any partitioning.

Writes  OUT/transactions, OUT/labels (by business_date), OUT/truth, OUT/_complete/<date>
Fails   when OUT contains other files, or another bank

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
# Upper bound of the share of frauds; the default rates give less.
MAX_FRAUD_SHARE = 0.01


def simulate(spark: SparkSession, plan: SimulationPlan) -> None:
    """Write the deliveries of a bank; replace what an earlier run wrote for the same bank.

    Raises:
        UsageError: the folder contains files that `simulate` did not write, or another bank.
    """
    folder = Folder(plan)
    folder.claim()
    payments = delivered_payments(_isolated_session(spark), plan)
    _write_by_date(transactions(payments, plan), plan, f"{folder.uri}/transactions")
    _write_by_date(labels(payments, plan), plan, f"{folder.uri}/labels")
    _write_truth(truth(payments), plan, f"{folder.uri}/truth")
    folder.mark_complete()


def _isolated_session(spark: SparkSession) -> SparkSession:
    """Return a new session of the same Spark; its settings do not change the caller's session."""
    session = spark.newSession()
    # A row's arithmetic is one long method. Java does not compile methods above 8,000 bytes. With
    # this limit Spark generates other code for such rows, which is twice as fast.
    session.conf.set("spark.sql.codegen.hugeMethodLimit", "8000")
    # Standard Parquet timestamps, which other programs can read too.
    session.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    return session


def _write_by_date(frame: DataFrame, plan: SimulationPlan, path: str) -> None:
    """Replace a table; write one file per date, or per `ROWS_PER_FILE` rows of a date."""
    files_per_date = 1 + int(plan.num_cards * MEAN_DAILY_PAYMENTS) // ROWS_PER_FILE
    file_number = F.pmod(F.xxhash64("transaction_id"), F.lit(files_per_date))
    (
        frame.repartition("business_date", file_number)
        .write.mode("overwrite")
        # The mode "dynamic", which a session may have, would keep the dates of an older bank.
        .option("partitionOverwriteMode", "static")
        .partitionBy("business_date")
        .parquet(path)
    )


def _write_truth(frame: DataFrame, plan: SimulationPlan, path: str) -> None:
    """Replace the truth table; frauds are rare, so only a very large bank needs several files."""
    payments = plan.num_cards * plan.num_days * MEAN_DAILY_PAYMENTS
    num_files = 1 + int(payments * MAX_FRAUD_SHARE) // ROWS_PER_FILE
    frame.repartition(num_files, "transaction_id").write.mode("overwrite").parquet(path)
