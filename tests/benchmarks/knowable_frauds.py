"""How good any model could be on the public data: frauds that nothing known could give away.

A merchant's terminal that was compromised (scenario 2 of the data) makes ordinary payments of
ordinary cards into frauds. Before one of them is known, seven days later, nothing tells them apart.
Here an oracle judges the rows that a `backtest` judges, week by week: it finds every fraud of the
other scenarios, however small, and those of a merchant of which such a fraud was known at the
payment's moment and no more than four weeks old. All else it calls alike.

    python tests/benchmarks/knowable_frauds.py --lake L --scenarios handbook_transactions.parquet \
        --from 2018-07-18 --to 2018-08-14

The last line is one JSON object: means over the weeks, as of a `backtest`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, timedelta
from statistics import fmean
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake

WEEK = 7
FIGURES = ("roc_auc", "average_precision", "cp_at_k")
OF_MERCHANT = 2
COMPROMISED_DAYS = 28


def with_what_is_knowable(rows: DataFrame, frauds: DataFrame) -> DataFrame:
    """Rows with `knowable`: 1 for a fraud that something gives away, else 0.

    `frauds` are all there are: `transaction_id, merchant_id, event_time, label_time, scenario`.
    """
    from pyspark.sql import functions as F

    of_merchant = frauds.where(F.col("scenario") == OF_MERCHANT)
    earlier = of_merchant.select(
        "merchant_id", F.col("event_time").alias("then"), F.col("label_time").alias("known_from")
    )
    oldest = F.col("event_time") - F.make_dt_interval(F.lit(COMPROMISED_DAYS))
    near = (F.col("known_from") <= F.col("event_time")) & (F.col("then") > oldest)
    known = of_merchant.join(earlier, "merchant_id").where(near).select("transaction_id")
    others = frauds.where(F.col("scenario") != OF_MERCHANT).select("transaction_id")
    given_away = others.union(known.distinct()).withColumn("knowable", F.lit(1.0))
    return rows.join(given_away, "transaction_id", "left").fillna(0.0, ["knowable"])


def frauds_of(lake: Lake, scenarios: str) -> DataFrame:
    """All frauds of the lake's labels, with the scenario that the published file gives them."""
    from pyspark.sql import functions as F

    from jobs.lake.tables import LABELS, TRANSACTIONS

    told = lake.spark.read.parquet(scenarios).select(
        F.col("TRANSACTION_ID").cast("string").alias("transaction_id"),
        F.col("TX_FRAUD_SCENARIO").alias("scenario"),
    )
    labels = lake.read(LABELS).where("is_fraud").select("transaction_id", "label_time")
    payments = lake.read(TRANSACTIONS).select("transaction_id", "merchant_id", "event_time")
    return labels.join(payments, "transaction_id").join(told, "transaction_id")


def judged(lake: Lake, dates: Dates, frauds: DataFrame) -> dict[str, float]:
    """Figures of one week."""
    from jobs.evaluation.eligible_rows import rows_to_evaluate
    from jobs.evaluation.ranking_metrics import figures
    from jobs.lake.runs import Run
    from jobs.lake.tables import LABELS, TRANSACTIONS

    versions = lake.versions((TRANSACTIONS, LABELS))
    rows = rows_to_evaluate(lake, dates, Run("benchmark", dates, {}, versions_in=versions))
    ranked = with_what_is_knowable(rows, frauds).persist()
    found = figures(ranked, "knowable", lake.settings.alert_budget)
    given_away = ranked.where("knowable > 0").count()
    ranked.unpersist()
    return {**asdict(found), "knowable_share": given_away / found.num_frauds}


def main(
    lake: Annotated[str, typer.Option(help="A lake with the public data and mature labels.")],
    scenarios: Annotated[str, typer.Option(help="The public file, which tells scenarios.")],
    first: Annotated[str, typer.Option("--from", help="First night.")],
    last: Annotated[str, typer.Option("--to", help="Last night.")],
) -> None:
    """Judge week by week and print the means."""
    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session

    settings = load_settings(None, {"lake": lake})
    opened = Lake(open_session(settings), settings)
    dates = Dates(date.fromisoformat(first), date.fromisoformat(last))
    frauds = frauds_of(opened, scenarios).persist()
    weeks = []
    for day in dates.days[::WEEK]:
        end = min(day + timedelta(days=WEEK - 1), dates.last)
        weeks.append(judged(opened, Dates(day, end), frauds))
        typer.echo(json.dumps({"from": str(day), "to": str(end), **weeks[-1]}))
    opened.spark.stop()
    means = {name: fmean(week[name] for week in weeks) for name in (*FIGURES, "knowable_share")}
    typer.echo(json.dumps({name: round(value, 4) for name, value in means.items()}))


if __name__ == "__main__":
    typer.run(main)
