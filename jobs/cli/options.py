"""What all commands share: common options, dates, settings, the session and the lake."""

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
    from jobs.runtime.settings import Settings

OptionalDay = Annotated[str | None, typer.Option("--date", help="One night, YYYY-MM-DD.")]
FirstDay = Annotated[str | None, typer.Option("--from", help="First night of a range.")]
LastDay = Annotated[str | None, typer.Option("--to", help="Last night of a range.")]
Accept = Annotated[
    str | None,
    typer.Option("--accept", help="Overrule this job's gate for this run; needs --reason."),
]
Why = Annotated[str | None, typer.Option("--reason", help="Why; recorded and shown.")]
# Years of nights: lookbacks and horizons reach years to either side.
YEARS = (1950, 2999)


def parse_day(text: str, flag: str) -> date:
    """A date as the command line gives it.

    Raises:
        UsageError: it is no date, or of a year that no night has.
    """
    with suppress(ValueError):
        day = datetime.strptime(text, "%Y-%m-%d").date()
        if YEARS[0] <= day.year <= YEARS[1]:
            return day
    raise UsageError(
        f"{flag} {text!r} is no date of a night.",
        expected=f"a day that exists, written YYYY-MM-DD, of the years {YEARS[0]} to {YEARS[1]}.",
        remedy="correct the date.",
    )


def parse_dates(day: str | None, first: str | None, last: str | None) -> "Dates":
    """One night (`--date`) or a range (`--from`, `--to`).

    Raises:
        UsageError: neither, both, or half of a range was given.
    """
    from jobs.lake.dates import Dates

    if day and not first and not last:
        only = parse_day(day, "--date")
        return Dates(only, only)
    if first and last and not day:
        return Dates(parse_day(first, "--from"), parse_day(last, "--to"))
    raise UsageError(
        "It is not clear which nights are meant.",
        expected="either --date D, or --from D --to D.",
        remedy="give one of the two.",
    )


def _common(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    lake: Annotated[str | None, typer.Option(help="Path or URI of the lake.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or text.")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback.")] = False,
) -> "Settings":
    """What every command can be told; the settings follow from it."""
    from jobs.runtime.logs import set_up_logs
    from jobs.runtime.settings import load_settings

    flags = {"lake": lake, "log_format": log_format, "debug": debug or None}
    settings = load_settings(config, flags)
    set_up_logs(settings.log_format)
    return settings


def with_settings(job: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter, the settings, comes from the options all commands have."""
    _, *own = inspect.signature(job).parameters.values()
    common = inspect.signature(_common).parameters

    @functools.wraps(job)
    def run(**given: Any) -> None:
        settings = _common(**{name: given.pop(name) for name in common})
        job(settings, **given)

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
    """A Spark session, closed at the end."""
    from jobs.runtime.spark_session import open_session

    spark = open_session(settings)
    try:
        yield spark
    except BaseException:
        # A Spark that has died cannot be stopped either; why it died is the news.
        with suppress(Exception):
            spark.stop()
        raise
    spark.stop()


@contextmanager
def open_lake(settings: "Settings", *, must_exist: bool = True) -> Iterator["Lake"]:
    """The lake, with a Spark session of its own.

    Raises:
        UsageError: no lake is named, or (with `must_exist`) there is none at its place.
    """
    if not settings.lake:
        raise UsageError(
            "No lake is named.",
            expected="--lake, FRAUD_LAKE or `lake` in the file given by --config.",
            remedy="say where the lake is.",
        )
    from jobs.lake.delta_io import Lake, require_place
    from jobs.lake.tables import require_known_tables

    require_place(settings.lake)
    require_known_tables(settings.tables)
    with open_spark(settings) as spark:
        lake = Lake(spark, settings)
        if must_exist:
            lake.require()
        yield lake
