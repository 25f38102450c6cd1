"""Compare published features with the same definitions in Spark SQL, for all rows and features.

The oracle (`tests/feature_defs/oracle.py`) joins each transaction with all events in its windows,
so it takes minutes where the feature engine takes seconds. Counts, sums, extremes and gaps must be
equal to the last bit, all others within 1e-12. Exits with 1 when anything differs.

    python tests/benchmarks/oracle_check.py --lake L --from 2018-04-01 --to 2018-08-14
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import typer
from benchmark_lake import FirstNight, LakeFolder, LastNight, dates_between, open_lake

sys.path.insert(0, str(Path(__file__).parents[1] / "feature_defs"))


def main(lake: LakeFolder, first: FirstNight, last: LastNight) -> None:
    """Print how many rows and features were compared, and which features differ."""
    from oracle import by_definition, differing

    from feature_defs.catalogue import FEATURES, available
    from jobs.deliveries.delivery_history import label_policy
    from jobs.lake.tables import FEATURES_TABLE, LABELS, TRANSACTIONS
    from jobs.models.feature_inputs import read_feature_inputs

    dates = dates_between(first, last)
    with open_lake(lake) as opened:
        policy = label_policy(opened)
        if policy.maturity_days is not None:
            raise typer.BadParameter(
                "the labels of this lake are frauds only; the oracle needs a label per transaction"
            )
        versions = opened.versions((TRANSACTIONS, LABELS))
        inputs = read_feature_inputs(opened, dates, versions, policy)
        ours = opened.read(FEATURES_TABLE).where(dates.sql)
        features = available(FEATURES, dict(inputs.transactions.dtypes))
        expected = by_definition(inputs, dates.first, dates.last, features)
        different = differing(ours, expected, features)
        num_rows = ours.count()
    equal = num_rows > 0 and not different
    result = {"num_rows": num_rows, "num_features": len(features), "differing": different}
    sys.stdout.write(json.dumps({**result, "holds": equal}) + "\n")
    raise typer.Exit(0 if equal else 1)


if __name__ == "__main__":
    typer.run(main)
