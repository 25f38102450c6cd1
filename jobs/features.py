"""Build the features of one night, or of a range of nights in one pass.

Reads   transactions and labels of the lookback, at the night's pinned versions
Writes  features of the dates (staged, checked by gate 2, then replaced in one commit); columns of
        features whose attributes `transactions` has, see `catalogue.available`
Fails   when a transaction would have no features, or a value is out of its range

    fraud-scoring features --lake L --date 2018-08-08
    fraud-scoring features --lake L --from 2018-04-01 --to 2018-08-14
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.catalogue import FEATURES, available, fingerprints
from feature_defs.point_in_time.compiler import compile_features
from feature_defs.sources import HAS_TIME_OF_DAY
from jobs.deliveries.delivery_history import label_policy
from jobs.lake.nights import Night
from jobs.lake.run_history import LATE_DAYS
from jobs.lake.tables import LABELS, TRANSACTIONS
from jobs.models.feature_inputs import read_feature_inputs
from jobs.quality.gate import require
from jobs.quality.overrides import GateOverride
from jobs.quality.row_counts import ACCEPTED_KEYS, AcceptedKeys
from jobs.quality.staged_rows import RowsToPublish
from jobs.quality.suites.features import suite_of


def run(night: Night, override: GateOverride | None = None) -> None:
    """Build, check and publish the features of the nights; `override` overrides gate 2.

    Raises:
        InputMissing: a night has not been ingested.
        GateFailed: gate 2 failed; nothing is published.
    """
    night.require_finished("ingest")
    lake, dates = night.lake, night.dates
    with night.job("features") as run, lake.staging(run.run_id) as stage:
        run.versions_in = {table.name: night.pin(table.name) for table in (TRANSACTIONS, LABELS)}
        inputs = read_feature_inputs(lake, dates, run.versions_in, label_policy(lake))
        transactions = inputs.transactions.where(dates.sql)
        accepted = AcceptedKeys(transactions, run.versions_in[TRANSACTIONS.name])

        features = available(FEATURES, dict(transactions.dtypes))
        suite = suite_of(features, hours_known=_hours_known(transactions))
        built = compile_features(inputs, dates.first, dates.last, lake.settings.late_days, features)
        staged = stage(built, suite.table.name)

        rows = RowsToPublish(accepted, staged, dict(staged.dtypes), dates)
        require(suite.run_checks(rows), run, override)

        run.rows["features"] = staged.count()
        night.publish(suite.table, staged, run)
        run.figures |= {"fingerprints": fingerprints(features), LATE_DAYS: lake.settings.late_days}
        # Every night of a range stores a copy of this record, so it must not grow with the range.
        if dates.num_nights == 1:
            run.figures[ACCEPTED_KEYS] = accepted.as_record()


def _hours_known(transactions: DataFrame) -> bool:
    """Return whether every transaction has a time of day."""
    if HAS_TIME_OF_DAY not in transactions.columns:
        return True
    return transactions.where(~F.col(HAS_TIME_OF_DAY)).isEmpty()
