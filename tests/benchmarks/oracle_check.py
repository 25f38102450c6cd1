"""Published features beside the same definitions in Spark SQL, on every row and every feature.

The oracle (`tests/feature_defs/oracle.py`) joins each transaction with all events that its windows
hold, so this takes minutes where the engine takes seconds. Counts, sums, extremes and gaps have to
be equal to the last bit, the rest within 1e-12; the command ends with 1 when anything differs.

    python tests/benchmarks/oracle_check.py --lake L --from 2018-04-01 --to 2018-08-14
"""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1] / "feature_defs"))


def main(
    lake: Annotated[str, typer.Option(help="A lake with features of these nights.")],
    first: Annotated[str, typer.Option("--from", help="First night.")],
    last: Annotated[str, typer.Option("--to", help="Last night.")],
) -> None:
    """Print how many rows and features were compared, and which differ."""
    from oracle import by_definition, differing

    from feature_defs.catalogue import FEATURES
    from jobs.deliveries.label_policy import label_policy
    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake
    from jobs.lake.tables import FEATURES_TABLE, LABELS, TRANSACTIONS
    from jobs.models.feature_inputs import read_feature_inputs
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session

    settings = load_settings(None, {"lake": lake})
    opened = Lake(open_session(settings), settings)
    dates = Dates(date.fromisoformat(first), date.fromisoformat(last))
    policy = label_policy(opened)
    if policy.maturity_days is not None:
        raise typer.BadParameter(
            "the oracle knows only labels that were given; this lake's imply some"
        )
    known = read_feature_inputs(opened, dates, opened.versions((TRANSACTIONS, LABELS)), policy)
    ours = opened.read(FEATURES_TABLE).where(dates.sql)
    differs = differing(ours, by_definition(known, dates.first, dates.last, FEATURES), FEATURES)
    num_rows = ours.count()
    holds = num_rows > 0 and not differs
    found = {"num_rows": num_rows, "num_features": len(FEATURES), "differing": differs}
    opened.spark.stop()
    sys.stdout.write(json.dumps({**found, "holds": holds}) + "\n")
    raise typer.Exit(0 if holds else 1)


if __name__ == "__main__":
    typer.run(main)
