"""Build the features of one night, or of a range of nights in one pass.

Reads   transactions and labels of the lookback, at the night's pins
Writes  features[business_date] (staged, gate 2, then one commit that replaces whole dates)
Fails   when a transaction would go without features, or a value leaves its range

    fraud-scoring features --lake L --date 2018-08-08
    fraud-scoring features --lake L --from 2018-04-01 --to 2018-08-14
"""

from __future__ import annotations

from feature_defs.catalogue import fingerprints
from feature_defs.point_in_time.compiler import compile_features
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from jobs.deliveries.label_policy import label_policy
from jobs.lake.nights import Night
from jobs.lake.run_history import LATE_DAYS
from jobs.lake.runs import Run
from jobs.lake.tables import FEATURES_TABLE, LABELS, TRANSACTIONS
from jobs.models.feature_inputs import read_feature_inputs
from jobs.quality.gate import require
from jobs.quality.overrides import GateOverride
from jobs.quality.row_counts import ACCEPTED_KEYS, AcceptedKeys
from jobs.quality.staged_rows import RowsToPublish
from jobs.quality.suites.features import SUITE


def run(night: Night, acceptance: GateOverride | None = None) -> None:
    """Build, check and publish the features of a night; gate 2 may be overruled for this run.

    Raises:
        InputMissing: the night has not been ingested.
        GateFailed: gate 2 said no; nothing is published.
    """
    night.require_finished("ingest")
    lake, dates = night.lake, night.dates
    with night.job("features") as run:
        try:
            known = knowledge(night, run)
            built = compile_features(known, dates.first, dates.last, lake.settings.late_days)
            staged = lake.stage(built, run.run_id, FEATURES_TABLE.name)
            nights = known.transactions.where(dates.sql)
            accepted = AcceptedKeys(nights, run.versions_in[TRANSACTIONS.name])
            rows = RowsToPublish(accepted, staged, dict(staged.dtypes), dates)
            require(SUITE.judge(rows), run, acceptance)
            run.rows["features"] = staged.count()
            night.publish(FEATURES_TABLE, staged, run)
            run.figures |= {"fingerprints": fingerprints(), LATE_DAYS: lake.settings.late_days}
            # Each night keeps the record of its run: what grows with the run's nights stays out.
            if dates.num_nights == 1:
                run.figures[ACCEPTED_KEYS] = accepted.as_record()
        finally:
            lake.discard_staged(run.run_id)


def knowledge(night: Night, run: Run) -> FeatureInputs:
    """Transactions and labels of the night and its lookback, at the night's pins."""
    for table in (TRANSACTIONS, LABELS):
        run.versions_in[table.name] = night.pin(table.name)
    return read_feature_inputs(night.lake, night.dates, run.versions_in, label_policy(night.lake))
