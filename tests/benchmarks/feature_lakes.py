"""Lakes that hold a benchmark's bank, read as the job of a night reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date

    from feature_defs.point_in_time import Knowledge
    from jobs.lake.delta_io import Lake


def fill(lake: Lake, known: Knowledge, num_files: int) -> None:
    """Append all of a bank's transactions and labels, dates dealt to so many tasks."""
    from jobs.lake.tables import LABELS, TRANSACTIONS

    for table, rows in ((TRANSACTIONS, known.transactions), (LABELS, known.labels)):
        lake.append(table, rows.repartition(num_files, "business_date"), "bank")


def known_for(lake: Lake, first: date, last: date) -> Knowledge:
    """What `features` reads for these nights."""
    from feature_defs.sources import LabelPolicy
    from jobs.knowledge import read_knowledge
    from jobs.lake.delta_io import Dates
    from jobs.lake.tables import LABELS, TRANSACTIONS

    versions = lake.versions((TRANSACTIONS, LABELS))
    return read_knowledge(lake, Dates(first, last), versions, LabelPolicy())
