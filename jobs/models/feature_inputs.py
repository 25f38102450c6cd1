"""Read the inputs of features at recorded versions: transactions and labels of the lookback.

Only dates that the features can depend on are read, so the cost of a night does not grow with the
length of the history.
"""

from __future__ import annotations

from datetime import timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from feature_defs.catalogue import LOOKBACK_DAYS
from feature_defs.labels import LabelPolicy
from feature_defs.point_in_time.labels_as_of import FeatureInputs
from jobs.lake.dates import Dates
from jobs.lake.delta_io import Lake
from jobs.lake.tables import LABELS, TRANSACTIONS, Table


def read_feature_inputs(
    lake: Lake, dates: Dates, versions: dict[str, int], policy: LabelPolicy
) -> FeatureInputs:
    """Return the transactions and labels that the features of these dates can depend on."""
    # The windows of a late row start earlier by its delay. And in a backfill, later deliveries can
    # contain events of these dates; the pinned versions of a regular night contain none.
    late = timedelta(days=lake.settings.late_days)
    lookback = Dates(dates.first - timedelta(days=LOOKBACK_DAYS) - late, dates.last + late)
    return FeatureInputs(
        _at(lake, versions, lookback, TRANSACTIONS), _at(lake, versions, lookback, LABELS), policy
    )


def _at(lake: Lake, versions: dict[str, int], dates: Dates, table: Table) -> DataFrame:
    return lake.read(table, versions[table.name]).where(F.expr(dates.sql))
