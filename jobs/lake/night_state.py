"""The state of nights in the lake: which ones a live run has leased, and which are closed."""

from __future__ import annotations

from datetime import date

from pyspark.sql import functions as F

from jobs.lake.delta_io import Lake
from jobs.lake.lease_owners import is_dead
from jobs.lake.runs import now
from jobs.lake.tables import NIGHTS


def leased_nights(lake: Lake) -> dict[date, str]:
    """Return the lease owner of each night that a live run has leased."""
    leased = F.col("holder").isNotNull() & (F.col("lease_until") > F.lit(now()))
    rows = lake.read(NIGHTS).where(leased).select("business_date", "holder").collect()
    return {row["business_date"]: row["holder"] for row in rows if not is_dead(row["holder"])}


def closed_nights(lake: Lake) -> set[date]:
    """Return the nights that are done and that no live run has leased."""
    rows = lake.read(NIGHTS).where("state = 'done'").select("business_date").collect()
    return {row["business_date"] for row in rows} - set(leased_nights(lake))
