"""Which nights a live run works on, and which are done."""

from __future__ import annotations

from datetime import date

from pyspark.sql import functions as F

from jobs.lake.delta_io import Lake
from jobs.lake.lease_owners import is_dead
from jobs.lake.runs import now
from jobs.lake.tables import NIGHTS


def leased_nights(lake: Lake) -> dict[date, str]:
    """Holder of each night that a live run works on."""
    held = F.col("holder").isNotNull() & (F.col("lease_until") > F.lit(now()))
    rows = lake.read(NIGHTS).where(held).select("business_date", "holder").collect()
    return {row["business_date"]: row["holder"] for row in rows if not is_dead(row["holder"])}


def closed_nights(lake: Lake) -> set[date]:
    """Nights that are done and that nobody works on."""
    rows = lake.read(NIGHTS).where("state = 'done'").select("business_date").collect()
    return {row["business_date"] for row in rows} - set(leased_nights(lake))
