"""Checks of a lake for `doctor`: tables and their logs, late rows, the registry."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pyspark.sql import functions as F

from feature_defs.errors import FraudScoringError, join_first
from fraud_models.registry.mlflow_registry import CHALLENGER, CHAMPION
from fraud_models.storage import is_local
from jobs.health.check_result import CheckResult, crashed, disk
from jobs.lake.delta_io import Lake
from jobs.lake.tables import NIGHTS, TABLES, TRANSACTIONS, Table
from jobs.models.model_store import has_registry, open_registry, read_checkpoint

ONE_DRIVER_ONLY = ("s3", "s3a", "s3n")
# Deliveries whose late rows are counted.
RECENT_NIGHTS = 28


def is_lake(lake: Lake) -> CheckResult:
    """Whether there is a lake, and room for the next nights.

    Raises:
        UsageError: there is none.
    """
    lake.require()
    if not is_local(lake.uri):
        return CheckResult("lake", "ok", lake.uri)
    return disk("lake", Path(lake.uri))


def log_store(lake: Lake) -> CheckResult:
    """Whether of two runs that commit at once one loses: leases rest on it.

    Delta's own store for S3 knows of one Spark driver only (Delta's documentation, "Storage
    configuration"); another one has to be named.
    """
    scheme = lake.uri.partition("://")[0] if "://" in lake.uri else ""
    setting = f"spark.delta.logStore.{scheme}.impl"
    if scheme in ONE_DRIVER_ONLY and not lake.spark.conf.get(setting, None):
        remedy = (
            f"name a store that many drivers may use, such as Delta's DynamoDB one, as {setting} "
            "in the setting `spark`."
        )
        found = f"{lake.uri} lies on storage where two runs may both make the same commit"
        return CheckResult("log store", "wrong", found, remedy)
    return CheckResult("log store", "ok", "one of two commits at once is refused")


def tables(lake: Lake) -> CheckResult:
    """Whether every table is there, has its columns, and can be read."""
    wrong = [complaint for table in TABLES.values() for complaint in _complaints(lake, table)]
    if wrong:
        remedy = "restore what is missing from a copy; `fraud-scoring ingest` makes a new lake."
        return CheckResult("tables", "wrong", "; ".join(wrong), remedy)
    return CheckResult("tables", "ok", f"all {len(TABLES)} are there and can be read")


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


def logs(lake: Lake) -> CheckResult:
    """Whether an entry of a table's log is empty: Delta reads it as a commit without rows."""
    empty = []
    for table in TABLES.values():
        if table.name not in lake.settings.tables:
            place = lake.path(table.name, "_delta_log")
            for entry in lake.files.ls(place, detail=True) if lake.files.exists(place) else ():
                if entry["name"].endswith(".json") and not entry["size"]:
                    empty.append(entry["name"])
    if empty:
        remedy = "restore these files from a copy; what their commits did is missing meanwhile."
        return CheckResult("logs", "wrong", f"empty log entries: {join_first(empty)}", remedy)
    return CheckResult("logs", "ok", "no entry is empty")


def late_rows(lake: Lake) -> CheckResult:
    """Rows whose events belong to nights that were published before the rows came."""
    transactions = lake.read(TRANSACTIONS)
    newest = lake.read(NIGHTS).agg(F.max("business_date").alias("day")).collect()[0]["day"]
    if newest is None:
        return CheckResult("late rows", "ok", "no night was begun yet")
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
        return CheckResult("late rows", "ok", f"none in the deliveries since {since}")
    found = f"{sum(row['count'] for row in rows)} for published nights: " + join_first(
        [f"{row['night']} ({row['count']})" for row in rows]
    )
    remedy = "nothing: they were scored in the nights that brought them."
    return CheckResult("late rows", "warning", found, remedy)


def registry(lake: Lake) -> CheckResult:
    """Whether the registry answers, which models compete and serve, and whether these are whole."""
    if not has_registry(lake):
        return _no_registry(lake)
    models = open_registry(lake)
    aliases = models.list_aliases()
    champion, challenger = aliases.get(CHAMPION), aliases.get(CHALLENGER)
    found = f"champion {champion or 'none'}, challenger {challenger or 'none'}"
    for version in sorted(set(aliases.values())):
        try:
            read_checkpoint(models.resolve(version))
        except FraudScoringError as problem:
            return CheckResult("registry", "wrong", f"{found}; {problem.found}", problem.remedy)
    if champion is None:
        remedy = "run `fraud-scoring evaluate` and `promote`; without a champion nothing is scored."
        return CheckResult("registry", "warning", found, remedy)
    return CheckResult("registry", "ok", found)


def _no_registry(lake: Lake) -> CheckResult:
    used = lake.read(NIGHTS).where("model_version IS NOT NULL").select("business_date").head()
    if used is None:
        return CheckResult(
            "registry",
            "warning",
            "no model was registered yet, so nights end after their features",
            "run `fraud-scoring train`, then `evaluate` and `promote`.",
        )
    return CheckResult(
        "registry",
        "wrong",
        f"it is gone, though nights were scored ({used['business_date']})",
        f"restore {lake.path('_registry')} from a copy, or correct FRAUD_REGISTRY_URI.",
    )
