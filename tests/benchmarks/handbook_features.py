"""Our features beside the handbook's own: how many rows and columns were compared, how many differ.

Rows of one card, or one merchant, within the same second may differ: the handbook orders such
ties by chance. No other row may, and the command ends with 1 when one does.

    python tests/benchmarks/handbook_features.py --lake L --reference handbook_features.parquet
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

COLUMNS = {
    **{f"CUSTOMER_ID_NB_TX_{n}DAY_WINDOW": f"card_count_{n}d" for n in (1, 7, 30)},
    **{f"CUSTOMER_ID_AVG_AMOUNT_{n}DAY_WINDOW": f"card_amount_mean_{n}d" for n in (1, 7, 30)},
    **{f"TERMINAL_ID_NB_TX_{n}DAY_WINDOW": f"merchant_count_{n}d_delay_7d" for n in (1, 7, 30)},
    **{f"TERMINAL_ID_RISK_{n}DAY_WINDOW": f"merchant_fraud_rate_{n}d_delay_7d" for n in (1, 7, 30)},
}
# The handbook's two flags follow from ours: Saturday and Sunday; hours 0 to 6.
FLAGS: dict[str, str] = {
    "TX_DURING_WEEKEND": "CAST(transaction_day_of_week >= 5 AS INT)",
    "TX_DURING_NIGHT": "CAST(FLOOR(transaction_hour_of_day) <= 6 AS INT)",
}
# Means of doubles differ from exact ones in the last bits.
RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Comparison:
    """What was compared and what differs."""

    num_rows: int
    num_columns: int
    num_missing: int
    """Reference rows without a row of ours."""
    num_tied_rows: int
    """Rows that share their second with another row of the same card or merchant."""
    num_tied_rows_that_differ: int
    num_other_rows_that_differ: int
    differing: dict[str, int]
    """Rows that differ, by column of ours."""

    @property
    def holds(self) -> bool:
        """Whether all is equal but for ties."""
        return self.num_rows > 0 and not self.num_missing and not self.num_other_rows_that_differ


def compare(ours: DataFrame, reference: DataFrame) -> Comparison:
    """Compare every published row and column with ours."""
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
    here = F.col("card_id").isNotNull()
    row = both.agg(
        F.count("*").alias("rows"),
        F.count_if(~here).alias("missing"),
        F.count_if("tied").alias("tied"),
        F.count_if(here & F.col("tied") & any_differs).alias("tied differ"),
        F.count_if(here & ~F.col("tied") & any_differs).alias("other differ"),
        *(F.count_if(here & differs).alias(name) for name, differs in differences.items()),
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
    value, wanted = ours.cast("double"), F.col(f"their {theirs}").cast("double")
    scale = F.greatest(F.lit(1.0), F.abs(wanted))
    return F.coalesce(F.abs(value - wanted) > RELATIVE_TOLERANCE * scale, F.lit(True))


def main(
    lake: Annotated[str, typer.Option(help="A lake with features of the reference's dates.")],
    reference: Annotated[Path, typer.Option(help="The handbook's features as Parquet.")],
) -> None:
    """Print what was compared; ends with 1 when a row that is no tie differs."""
    from jobs.lake.delta_io import Lake
    from jobs.lake.tables import FEATURES_TABLE
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session

    settings = load_settings(None, {"lake": lake})
    spark = open_session(settings)
    found = compare(
        Lake(spark, settings).read(FEATURES_TABLE), spark.read.parquet(str(reference.absolute()))
    )
    spark.stop()
    sys.stdout.write(json.dumps({**asdict(found), "holds": found.holds}) + "\n")
    raise typer.Exit(0 if found.holds else 1)


if __name__ == "__main__":
    typer.run(main)
