"""Check the lake for `doctor`: storage, tables, transaction logs, late rows, model registry."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pyspark.sql import functions as F

from feature_defs.errors import FraudScoringError, join_first
from fraud_models.registry.mlflow_registry import CHALLENGER, CHAMPION
from fraud_models.storage import is_local
from jobs.health.check_result import CheckResult, result_of_error
from jobs.health.machine_checks import check_disk_space
from jobs.lake.delta_io import Lake
from jobs.lake.tables import NIGHTS, TABLES, TRANSACTIONS, Table
from jobs.models.model_store import has_registry, open_registry, read_checkpoint

ONE_DRIVER_ONLY = ("s3", "s3a", "s3n")
# Number of nights before the newest one whose deliveries are searched for late rows.
RECENT_NIGHTS = 28


def check_lake(lake: Lake) -> CheckResult:
    """Check that the lake exists and that its disk has free space.

    Raises:
        UsageError: the lake does not exist.
    """
    lake.require()
    if not is_local(lake.uri):
        return CheckResult("lake", "ok", lake.uri)
    return check_disk_space("lake", Path(lake.uri))


def check_log_store(lake: Lake) -> CheckResult:
    """Check that storage refuses one of two concurrent commits; leases depend on it.

    Delta's default log store for S3 supports a single Spark driver (Delta documentation, "Storage
    configuration"). S3 therefore needs another log store in the settings.
    """
    scheme = lake.uri.partition("://")[0] if "://" in lake.uri else ""
    setting = f"spark.delta.logStore.{scheme}.impl"
    if scheme in ONE_DRIVER_ONLY and not lake.spark.conf.get(setting, None):
        remedy = (
            f"set {setting} in the setting `spark` to a log store for several drivers, such as "
            "Delta's DynamoDB log store."
        )
        found = f"{lake.uri} is on storage where two concurrent runs can both write the same commit"
        return CheckResult("log store", "wrong", found, remedy)
    return CheckResult("log store", "ok", "one of two concurrent commits is refused")


def check_tables(lake: Lake) -> CheckResult:
    """Check that every table exists, has its columns and can be read."""
    defects = [defect for table in TABLES.values() for defect in _table_defects(lake, table)]
    if defects:
        remedy = "restore the missing parts from a backup, or create a new lake with `ingest`."
        return CheckResult("tables", "wrong", "; ".join(defects), remedy)
    return CheckResult("tables", "ok", f"all {len(TABLES)} exist and can be read")


def _table_defects(lake: Lake, table: Table) -> list[str]:
    try:
        if not lake.has(table):
            return [f"{table.name} is missing"]
        frame = lake.read(table)
        missing = sorted(set(table.column_names) - set(frame.columns))
        frame.limit(1).collect()
    except Exception as error:
        return [f"{table.name} cannot be read: {result_of_error(table.name, error).found}"]
    return [f"{table.name} lacks {', '.join(missing)}"] if missing else []


def check_table_logs(lake: Lake) -> CheckResult:
    """Check that no log entry of a table is empty: Delta reads one as a commit without changes."""
    empty = []
    for table in TABLES.values():
        if table.name not in lake.settings.tables:
            folder = lake.path(table.name, "_delta_log")
            for entry in lake.files.ls(folder, detail=True) if lake.files.exists(folder) else ():
                if entry["name"].endswith(".json") and not entry["size"]:
                    empty.append(entry["name"])
    if empty:
        remedy = "restore these files from a backup; until then the changes they hold are missing."
        return CheckResult("logs", "wrong", f"empty log entries: {join_first(empty)}", remedy)
    return CheckResult("logs", "ok", "no log entry is empty")


def check_late_rows(lake: Lake) -> CheckResult:
    """Count rows whose event belongs to a night that was published before the row arrived."""
    transactions = lake.read(TRANSACTIONS)
    newest = lake.read(NIGHTS).agg(F.max("business_date").alias("day")).collect()[0]["day"]
    if newest is None:
        return CheckResult("late rows", "ok", "no night has begun yet")
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
    remedy = "none needed: these rows were scored in the night of their delivery."
    return CheckResult("late rows", "warning", found, remedy)


def check_registry(lake: Lake) -> CheckResult:
    """Check that the registry can be read and that champion and challenger are intact."""
    if not has_registry(lake):
        return _missing_registry(lake)
    models = open_registry(lake)
    aliases = models.list_aliases()
    champion, challenger = aliases.get(CHAMPION), aliases.get(CHALLENGER)
    found = f"champion {champion or 'none'}, challenger {challenger or 'none'}"
    for version in sorted(set(aliases.values())):
        try:
            read_checkpoint(models.resolve(version))
        except FraudScoringError as error:
            return CheckResult("registry", "wrong", f"{found}; {error.found}", error.remedy)
    if champion is None:
        remedy = (
            "run `fraud-scoring evaluate` and `promote`; without a champion no night is scored."
        )
        return CheckResult("registry", "warning", found, remedy)
    return CheckResult("registry", "ok", found)


def _missing_registry(lake: Lake) -> CheckResult:
    used = lake.read(NIGHTS).where("model_version IS NOT NULL").select("business_date").head()
    if used is None:
        return CheckResult(
            "registry",
            "warning",
            "no model is registered yet, so nights stop after `features`",
            "run `fraud-scoring train`, then `evaluate` and `promote`.",
        )
    return CheckResult(
        "registry",
        "wrong",
        f"the registry is missing, but nights were scored ({used['business_date']})",
        f"restore {lake.path('_registry')} from a backup, or correct FRAUD_REGISTRY_URI.",
    )
