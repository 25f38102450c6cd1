"""What all commands share: common options, dates, settings, the Spark session and the lake.

Every command takes `settings: Settings` first. `with_settings` replaces this parameter by the
options that all commands have, so typer never sees it.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feature_defs.errors import UsageError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import Settings as Settings
else:
    # The annotation of a command's first parameter must exist at run time, and the real class is
    # slow to import.
    Settings = object

OptionalDay = Annotated[str | None, typer.Option("--date", help="One night, YYYY-MM-DD.")]
FirstDay = Annotated[str | None, typer.Option("--from", help="First night of a range.")]
LastDay = Annotated[str | None, typer.Option("--to", help="Last night of a range.")]
Accept = Annotated[
    str | None,
    typer.Option("--accept", help="Override this job's gate for this run; needs --reason."),
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", help="Reason for the override; recorded and shown in the report."),
]
# Lookbacks and retention reach years before and after a night; those dates must be valid too.
FIRST_YEAR, LAST_YEAR = 1950, 2999


def parse_day(text: str, flag: str) -> date:
    """Parse the date in an option.

    Raises:
        UsageError: the text is not a valid date, or its year is out of range.
    """
    with suppress(ValueError):
        day = datetime.strptime(text, "%Y-%m-%d").date()
        if FIRST_YEAR <= day.year <= LAST_YEAR:
            return day
    raise UsageError(
        f"{flag} {text!r} is not a valid date.",
        expected=f"a calendar day as YYYY-MM-DD, from {FIRST_YEAR} to {LAST_YEAR}.",
        remedy="correct the date.",
    )


def parse_dates(day: str | None, first: str | None, last: str | None) -> "Dates":
    """Return the nights of `--date`, or of `--from` and `--to`.

    Raises:
        UsageError: neither or both are given, or only one end of the range.
    """
    from jobs.lake.dates import Dates

    if day and not first and not last:
        night = parse_day(day, "--date")
        return Dates(night, night)
    if first and last and not day:
        return Dates(parse_day(first, "--from"), parse_day(last, "--to"))
    raise UsageError(
        "The options do not name one night or one range of nights.",
        expected="either --date D, or --from D --to D.",
        remedy="specify either --date or both --from and --to.",
    )


def _common(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    lake: Annotated[str | None, typer.Option(help="Path or URI of the lake.")] = None,
    log_format: Annotated[
        str | None, typer.Option(help="Format of log lines: json or text.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> "Settings":
    """Load the settings from the options that all commands have, and set up logging."""
    from feature_defs.own_definitions import use_definitions
    from jobs.runtime.logs import set_up_logs
    from jobs.runtime.settings import load_settings

    flags = {"lake": lake, "log_format": log_format, "debug": debug or None}
    settings = load_settings(config, flags)
    set_up_logs(settings.log_format)
    use_definitions(settings.definitions)
    return settings


def with_settings(job: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's first parameter, the settings, by the options of `_common`."""
    _, *own = inspect.signature(job).parameters.values()
    common = inspect.signature(_common).parameters

    @functools.wraps(job)
    def run(**options: Any) -> None:
        settings = _common(**{name: options.pop(name) for name in common})
        job(settings, **options)

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in (*own, *common.values())
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__
    return run


@contextmanager
def open_spark(settings: "Settings") -> Iterator["SparkSession"]:
    """Open a Spark session and stop it at the end."""
    from jobs.runtime.spark_session import open_session

    spark = open_session(settings)
    try:
        yield spark
    except BaseException:
        # If Spark has died, stopping it fails as well; the first error is the one to report.
        with suppress(Exception):
            spark.stop()
        raise
    spark.stop()


@contextmanager
def open_lake(settings: "Settings", *, must_exist: bool = True) -> Iterator["Lake"]:
    """Open the lake with a Spark session of its own.

    Raises:
        UsageError: the settings name no lake, its path is invalid, or (with `must_exist`) it does
            not exist.
    """
    if not settings.lake:
        raise UsageError(
            "The path of the lake is missing.",
            expected="--lake, FRAUD_LAKE or `lake` in the file of --config.",
            remedy="set one of them to the path or URI of the lake.",
        )
    from jobs.lake.delta_io import Lake, require_valid_lake_path
    from jobs.lake.tables import require_known_tables

    require_valid_lake_path(settings.lake)
    require_known_tables(settings.tables)
    with open_spark(settings) as spark:
        lake = Lake(spark, settings)
        if must_exist:
            lake.require()
        yield lake
