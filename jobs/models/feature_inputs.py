"""Read the inputs of features at recorded versions: transactions and labels of the lookback.

Only dates that the features can depend on are read, so the cost of a night does not grow with the
length of the history.
"""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import functions as F

from feature_defs.catalogue import FEATURES, available, lookback_days
from feature_defs.labels import LabelPolicy
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.tables import LABELS, TRANSACTIONS


def read_feature_inputs(
    lake: Lake, dates: Dates, versions: dict[str, int], policy: LabelPolicy
) -> FeatureInputs:
    """Return the transactions and labels that the features of these dates can depend on."""
    # The windows of a late row start earlier by its delay. And in a backfill, later deliveries can
    # contain events of these dates; the pinned versions of a regular night contain none.
    late = timedelta(days=lake.settings.late_days)
    transactions, labels = (lake.read(t, versions[t.name]) for t in (TRANSACTIONS, LABELS))
    lookback = timedelta(days=lookback_days(available(FEATURES, dict(transactions.dtypes))))
    read = F.expr(Dates(dates.first - lookback - late, dates.last + late).sql)
    return FeatureInputs(transactions.where(read), labels.where(read), policy)
