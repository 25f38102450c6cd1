"""Checks of a lake for `doctor`: tables, nights, what dead runs left, late rows, the registry."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pyspark.sql import functions as F

from fraud_models.storage import exists, is_local, names_in
from jobs.findings import Finding, crashed, disk
from jobs.lake.delta_io import Lake
from jobs.lake.tables import NIGHTS, TABLES, TRANSACTIONS, Table

# Deliveries whose late rows are counted, and names that a finding lists at most.
RECENT_NIGHTS = 28
MAX_NAMED = 5


def is_lake(lake: Lake) -> Finding:
    """Whether there is a lake, and room for the next nights.

    Raises:
        UsageProblem: there is none.
    """
    lake.require()
    if not is_local(lake.uri):
        return Finding("lake", "ok", lake.uri)
    return disk("lake", Path(lake.uri))


def tables(lake: Lake) -> Finding:
    """Whether every table is there, has its columns, and can be read."""
    wrong = [complaint for table in TABLES.values() for complaint in _complaints(lake, table)]
    if wrong:
        remedy = "restore what is missing from a copy; `fraud-scoring ingest` makes a new lake."
        return Finding("tables", "wrong", "; ".join(wrong), remedy)
    return Finding("tables", "ok", f"all {len(TABLES)} are there and can be read")


def _complaints(lake: Lake, table: Table) -> list[str]:
    try:
        if not lake.has(table):
            return [f"{table.name} is missing"]
        frame = lake.read(table)
        missing = sorted(set(table.column_names) - set(frame.columns))
        frame.limit(1).collect()
    except Exception as error:
        return [f"{table.name} cannot be read: {crashed(table.name, error).found}"]
    return [f"{table.name} lacks {', '.join(missing)}"] if missing else []


def nights(lake: Lake) -> Finding:
    """Which nights are done, held, or were left by a run that died."""
    held = F.col("holder").isNotNull()
    expired = held & (F.col("lease_until") < F.current_timestamp())
    rows = (
        lake.read(NIGHTS)
        .select("business_date", "state", (held & ~expired).alias("held"), expired.alias("expired"))
        .orderBy(F.desc("business_date"))
        .collect()
    )
    dead = [str(row["business_date"]) for row in rows if row["expired"]]
    busy = sum(row["held"] for row in rows)
    waiting = [
        str(row["business_date"])
        for row in rows
        if row["state"] != "done" and not row["held"] and not row["expired"]
    ]
    found = f"{len(rows)} begun, {sum(row['state'] == 'done' for row in rows)} done, {busy} held"
    if waiting:
        found += f", {len(waiting)} without a report yet ({_named(waiting)})"
    if dead:
        remedy = "run those nights again with `fraud-scoring nightly`; the leases have ended."
        return Finding("nights", "warning", f"{found}; a run died in {_named(dead)}", remedy)
    return Finding("nights", "ok", found)


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def staging(lake: Lake) -> Finding:
    """Whether dead runs left files behind."""
    left = names_in(lake.path("_staging"))
    if not left:
        return Finding("staging", "ok", "empty")
    live = F.col("holder").isNotNull() & (F.col("lease_until") >= F.current_timestamp())
    # Scores wait in staging until they are published.
    score = F.get_json_object(F.col("jobs")["score"], "$.run_id")
    waiting = F.when(F.col("jobs")["publish"].isNull(), score)
    row = lake.read(NIGHTS).agg(F.count_if(live).alias("live"), F.collect_set(waiting).alias("own"))
    state = row.collect()[0]
    dead = [name for name in left if name not in state["own"]]
    if state["live"] or not dead:
        return Finding("staging", "ok", f"{len(left)} runs at work or waiting to be published")
    remedy = "run `fraud-scoring maintain`, which sweeps it."
    return Finding("staging", "warning", f"left by dead runs: {_named(dead)}", remedy)


def late_rows(lake: Lake) -> Finding:
    """Rows whose events belong to nights that were published before the rows came."""
    transactions = lake.read(TRANSACTIONS)
    newest = lake.read(NIGHTS).agg(F.max("business_date").alias("day")).collect()[0]["day"]
    if newest is None:
        return Finding("late rows", "ok", "no night was begun yet")
    since = newest - timedelta(days=RECENT_NIGHTS)
    event_date = F.to_date("event_time")
    late = transactions.where(
        (F.col("business_date") >= F.lit(since)) & (event_date < F.col("business_date"))
    ).select(event_date.alias("night"), "ingest_time")
    started = F.get_json_object(F.col("jobs")["publish"], "$.started_at")
    published = (
        lake.read(NIGHTS)
        .where(started.isNotNull())
        .select(F.col("business_date").alias("night"), started.cast("timestamp").alias("at"))
    )
    rows = (
        late.join(F.broadcast(published), "night")
        .where(F.col("ingest_time") > F.col("at"))
        .groupBy("night")
        .count()
        .orderBy("night")
        .collect()
    )
    if not rows:
        return Finding("late rows", "ok", f"none in the deliveries since {since}")
    found = f"{sum(row['count'] for row in rows)} for published nights: " + _named(
        [f"{row['night']} ({row['count']})" for row in rows]
    )
    remedy = "nothing: they were scored in the nights that brought them."
    return Finding("late rows", "warning", found, remedy)


def registry(lake: Lake) -> Finding:
    """Whether the registry answers, and which models compete and serve."""
    if lake.settings.registry_uri is None and not exists(lake.path("_registry", "mlflow.db")):
        return Finding(
            "registry",
            "warning",
            "no model was registered yet, so nights end after their features",
            "run `fraud-scoring train`, then `evaluate` and `promote`.",
        )
    from fraud_models.registry import CHALLENGER, CHAMPION
    from jobs.model_store import open_registry

    aliases = open_registry(lake).list_aliases()
    champion, challenger = aliases.get(CHAMPION), aliases.get(CHALLENGER)
    found = f"champion {champion or 'none'}, challenger {challenger or 'none'}"
    if champion is None:
        remedy = "run `fraud-scoring evaluate` and `promote`; without a champion nothing is scored."
        return Finding("registry", "warning", found, remedy)
    return Finding("registry", "ok", found)
