"""What features are made from, read at recorded versions: transactions and labels of a lookback."""

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
    """Rows that the features of these dates can depend on; no other dates are read."""
    # A late row's windows begin earlier by as much as it is late, and what happened on these
    # dates may have come by a later delivery (in a backfill: a night's own pins know of none).
    late = timedelta(days=lake.settings.late_days)
    reach = Dates(dates.first - timedelta(days=LOOKBACK_DAYS) - late, dates.last + late)
    return FeatureInputs(
        _at(lake, versions, reach, TRANSACTIONS), _at(lake, versions, reach, LABELS), policy
    )


def _at(lake: Lake, versions: dict[str, int], reach: Dates, table: Table) -> DataFrame:
    return lake.read(table, versions[table.name]).where(F.expr(reach.sql))
