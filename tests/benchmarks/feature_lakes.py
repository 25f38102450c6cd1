"""Fill lakes with a benchmark's bank, and read them as the job of a night does."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from feature_defs.point_in_time.labels_as_of import FeatureInputs
    from jobs.lake.delta_io import Lake


def fill_lake(lake: Lake, inputs: FeatureInputs, num_files: int) -> None:
    """Append all of a bank's transactions and labels, in `num_files` tasks by date."""
    from jobs.lake.tables import LABELS, TRANSACTIONS

    for table, rows in ((TRANSACTIONS, inputs.transactions), (LABELS, inputs.labels)):
        lake.append(table, rows.repartition(num_files, "business_date"), "bank")


def inputs_of_nights(lake: Lake, first: date, last: date) -> FeatureInputs:
    """Return what the job `features` reads for these nights."""
    from feature_defs.labels import LabelPolicy
    from jobs.lake.dates import Dates
    from jobs.lake.tables import LABELS, TRANSACTIONS
    from jobs.models.feature_inputs import read_feature_inputs

    versions = lake.versions((TRANSACTIONS, LABELS))
    return read_feature_inputs(lake, Dates(first, last), versions, LabelPolicy())
