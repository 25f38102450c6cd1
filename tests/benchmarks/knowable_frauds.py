"""Measure an upper bound for any model on the public data: some frauds cannot be predicted.

At a compromised terminal (scenario 2 of the data) normal payments of normal cards are frauds. Until
the first of them is known, seven days later, no data separates them from genuine payments. An
oracle ranks the rows that a `backtest` evaluates, week by week. It detects every fraud of the other
scenarios, however small, and frauds at a merchant where a fraud of the last four weeks was known at
the time of the payment. It ranks all other rows equally.

    python tests/benchmarks/knowable_frauds.py --lake L --scenarios handbook_transactions.parquet \
        --from 2018-07-18 --to 2018-08-14

The last line is one JSON object: means over the weeks, as a `backtest` reports them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer
from benchmark_lake import FirstNight, LakeFolder, LastNight, dates_between, open_lake

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake

WEEK = 7
METRICS = ("roc_auc", "average_precision", "cp_at_k")
COMPROMISED_TERMINAL = 2
COMPROMISED_DAYS = 28


def with_predictable(rows: DataFrame, frauds: DataFrame) -> DataFrame:
    """Add the column `predictable`: 1 for a fraud that can be predicted, else 0.

    `frauds` are all frauds: `transaction_id, merchant_id, event_time, label_time, scenario`.
    """
    from pyspark.sql import functions as F

    at_terminal = frauds.where(F.col("scenario") == COMPROMISED_TERMINAL)
    earlier = at_terminal.select(
        "merchant_id",
        F.col("event_time").alias("earlier_time"),
        F.col("label_time").alias("known_from"),
    )
    oldest = F.col("event_time") - F.make_dt_interval(F.lit(COMPROMISED_DAYS))
    recent = (F.col("known_from") <= F.col("event_time")) & (F.col("earlier_time") > oldest)
    known = at_terminal.join(earlier, "merchant_id").where(recent).select("transaction_id")
    others = frauds.where(F.col("scenario") != COMPROMISED_TERMINAL).select("transaction_id")
    predictable = others.union(known.distinct()).withColumn("predictable", F.lit(1.0))
    return rows.join(predictable, "transaction_id", "left").fillna(0.0, ["predictable"])


def frauds_of(lake: Lake, scenarios: str) -> DataFrame:
    """Return all frauds of the lake's labels with the scenario of the published file."""
    from pyspark.sql import functions as F

    from jobs.lake.tables import LABELS, TRANSACTIONS

    published = lake.spark.read.parquet(scenarios).select(
        F.col("TRANSACTION_ID").cast("string").alias("transaction_id"),
        F.col("TX_FRAUD_SCENARIO").alias("scenario"),
    )
    labels = lake.read(LABELS).where("is_fraud").select("transaction_id", "label_time")
    payments = lake.read(TRANSACTIONS).select("transaction_id", "merchant_id", "event_time")
    return labels.join(payments, "transaction_id").join(published, "transaction_id")


def metrics_of(lake: Lake, dates: Dates, frauds: DataFrame) -> dict[str, float]:
    """Return the oracle's metrics of one week."""
    from jobs.evaluation.eligible_rows import (
        EVALUATED_TABLES,
        read_evaluation_tables,
        rows_to_evaluate,
    )
    from jobs.evaluation.ranking_metrics import ranking_metrics

    tables = read_evaluation_tables(lake, lake.versions(EVALUATED_TABLES))
    rows = rows_to_evaluate(tables, dates)
    ranked = with_predictable(rows, frauds).persist()
    metrics = ranking_metrics(ranked, "predictable", lake.settings.alert_budget)
    num_predictable = ranked.where("predictable > 0").count()
    ranked.unpersist()
    return {**asdict(metrics), "knowable_share": num_predictable / metrics.num_frauds}


def main(
    lake: LakeFolder,
    scenarios: Annotated[str, typer.Option(help="The public file, which has the scenarios.")],
    first: FirstNight,
    last: LastNight,
) -> None:
    """Evaluate the oracle week by week and print the means."""
    from jobs.lake.dates import Dates

    dates = dates_between(first, last)
    weeks = []
    with open_lake(lake) as opened:
        frauds = frauds_of(opened, scenarios).persist()
        for day in dates.days[::WEEK]:
            end = min(day + timedelta(days=WEEK - 1), dates.last)
            weeks.append(metrics_of(opened, Dates(day, end), frauds))
            typer.echo(json.dumps({"from": str(day), "to": str(end), **weeks[-1]}))
    means = {name: fmean(week[name] for week in weeks) for name in (*METRICS, "knowable_share")}
    typer.echo(json.dumps({name: round(value, 4) for name, value in means.items()}))


if __name__ == "__main__":
    typer.run(main)
