"""Compare our features with those that the handbook publishes, row by row.

Only rows of one card, or one merchant, within the same second may differ, because the order of
such ties is arbitrary in the handbook. Exits with 1 when any other row differs.

    python tests/benchmarks/handbook_features.py --lake L --reference handbook_features.parquet
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from benchmark_lake import LakeFolder, open_lake
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

COLUMNS = {
    **{f"CUSTOMER_ID_NB_TX_{n}DAY_WINDOW": f"card_count_{n}d" for n in (1, 7, 30)},
    **{f"CUSTOMER_ID_AVG_AMOUNT_{n}DAY_WINDOW": f"card_amount_mean_{n}d" for n in (1, 7, 30)},
    **{f"TERMINAL_ID_NB_TX_{n}DAY_WINDOW": f"merchant_count_{n}d_delay_7d" for n in (1, 7, 30)},
    **{f"TERMINAL_ID_RISK_{n}DAY_WINDOW": f"merchant_fraud_rate_{n}d_delay_7d" for n in (1, 7, 30)},
}
# The handbook's two flags as functions of our features: Saturday and Sunday; hours 0 to 6.
FLAGS: dict[str, str] = {
    "TX_DURING_WEEKEND": "CAST(transaction_day_of_week >= 5 AS INT)",
    "TX_DURING_NIGHT": "CAST(FLOOR(transaction_hour_of_day) <= 6 AS INT)",
}
# The handbook sums doubles; our means are exact, so the last bits differ.
RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Comparison:
    """Number of rows and columns compared, and of those that differ."""

    num_rows: int
    num_columns: int
    num_missing: int
    """Reference rows that we have no row for."""
    num_tied_rows: int
    """Rows that share their second with another row of the same card or merchant."""
    num_tied_rows_that_differ: int
    num_other_rows_that_differ: int
    differing: dict[str, int]
    """Rows that differ, by our column."""

    @property
    def only_ties_differ(self) -> bool:
        """Return whether all rows but ties are equal."""
        return self.num_rows > 0 and not self.num_missing and not self.num_other_rows_that_differ


def compare(ours: DataFrame, reference: DataFrame) -> Comparison:
    """Compare every published row and column with our features."""
    tied = F.greatest(
        *(
            F.count("*").over(Window.partitionBy(key, "event_time")) > 1
            for key in ("card_id", "merchant_id")
        )
    )
    theirs = reference.select(
        F.col("TRANSACTION_ID").cast("string").alias("id"),
        *(F.col(name).alias(f"their {name}") for name in (*COLUMNS, *FLAGS)),
    )
    mine = ours.withColumn("tied", tied).withColumnRenamed("transaction_id", "id")
    both = theirs.join(mine, "id", "left")
    differences = {
        **{ours_: _differs(F.col(ours_), theirs_) for theirs_, ours_ in COLUMNS.items()},
        **{theirs_: _differs(F.expr(sql), theirs_) for theirs_, sql in FLAGS.items()},
    }
    any_differs = F.greatest(*differences.values())
    found = F.col("card_id").isNotNull()
    row = both.agg(
        F.count("*").alias("rows"),
        F.count_if(~found).alias("missing"),
        F.count_if("tied").alias("tied"),
        F.count_if(found & F.col("tied") & any_differs).alias("tied differ"),
        F.count_if(found & ~F.col("tied") & any_differs).alias("other differ"),
        *(F.count_if(found & differs).alias(name) for name, differs in differences.items()),
    ).collect()[0]
    return Comparison(
        num_rows=row["rows"],
        num_columns=len(differences),
        num_missing=row["missing"],
        num_tied_rows=row["tied"],
        num_tied_rows_that_differ=row["tied differ"],
        num_other_rows_that_differ=row["other differ"],
        differing={name: row[name] for name in differences if row[name]},
    )


def _differs(ours: Column, theirs: str) -> Column:
    value, expected = ours.cast("double"), F.col(f"their {theirs}").cast("double")
    scale = F.greatest(F.lit(1.0), F.abs(expected))
    return F.coalesce(F.abs(value - expected) > RELATIVE_TOLERANCE * scale, F.lit(True))


def main(
    lake: LakeFolder,
    reference: Annotated[Path, typer.Option(help="The handbook's features as Parquet.")],
) -> None:
    """Print the comparison; exit with 1 when a row that is no tie differs."""
    from jobs.lake.tables import FEATURES_TABLE

    with open_lake(lake) as opened:
        published = opened.spark.read.parquet(str(reference.absolute()))
        comparison = compare(opened.read(FEATURES_TABLE), published)
    equal = comparison.only_ties_differ
    sys.stdout.write(json.dumps({**asdict(comparison), "holds": equal}) + "\n")
    raise typer.Exit(0 if equal else 1)


if __name__ == "__main__":
    typer.run(main)
