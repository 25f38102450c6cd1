"""The sub-commands that work on nights: each parses, then calls the job of its name.

Everything heavy is imported inside the commands, so `--help` answers at once.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feature_defs.errors import UsageError
from jobs.cli.options import (
    Accept,
    FirstDay,
    LastDay,
    OptionalDay,
    Why,
    open_lake,
    parse_dates,
    parse_day,
    with_settings,
)
from jobs.quality.overrides import override_from_options

if TYPE_CHECKING:
    from jobs.deliveries.source import Delivery
    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import Settings
else:
    # typer evaluates the annotations of commands; only `with_settings` looks at this one.
    Settings = object

Day = Annotated[str, typer.Option("--date", help="The night's business date, YYYY-MM-DD.")]


@with_settings
def ingest(
    settings: Settings,
    source: Annotated[
        str | None,
        typer.Option("--source", help="Path or URI of the delivery; else the lake's usual one."),
    ] = None,
    source_format: Annotated[Any, typer.Option("--format", help="delta, parquet or csv.")] = None,
    mapping: Annotated[
        str | None,
        typer.Option("--mapping", help="handbook, simulated, or the TOML file of a mapping."),
    ] = None,
    day: OptionalDay = None,
    first: FirstDay = None,
    last: LastDay = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Publish a night without rows.")
    ] = False,
    accept: Accept = None,
    reason: Why = None,
) -> None:
    """Source rows into `transactions` and `labels`, bad rows into `quarantine`.

    Example: fraud-scoring ingest --lake L --source bank --format parquet --mapping simulated
    --from 2024-01-01 --to 2024-01-31
    """
    dates = parse_dates(day, first, last)
    acceptance = override_from_options("ingest", accept, reason)
    from jobs import ingest as job
    from jobs.deliveries.readiness import check_ready
    from jobs.lake.nights import lease_nights

    named = _named_delivery(source, source_format, mapping)
    with open_lake(settings, must_exist=not (named or settings.source)) as opened:
        delivery = replace(named or _usual_delivery(opened), allow_empty=allow_empty)
        check_ready(opened, delivery, dates)
        opened.create()
        with lease_nights(opened, dates) as night:
            job.run(night, delivery, acceptance)


@with_settings
def features(
    settings: Settings,
    day: OptionalDay = None,
    first: FirstDay = None,
    last: LastDay = None,
    accept: Accept = None,
    reason: Why = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Only list the features: meaning, clock, window.")
    ] = False,
) -> None:
    """Point-in-time features of the nights' transactions.

    Example: fraud-scoring features --lake L --date 2018-08-08
    """
    if describe:
        if any((day, first, last, accept, reason)):
            raise UsageError(
                "--describe stands beside options of a night.",
                expected="--describe alone: it lists the features of every night.",
                remedy="leave out one or the other.",
            )
        from jobs.report_pages.feature_table import show

        show()
        return
    dates = parse_dates(day, first, last)
    _night_job(
        "features", settings, dates, acceptance=override_from_options("features", accept, reason)
    )


@with_settings
def score(settings: Settings, day: Day) -> None:
    """Score every transaction of a night with the champion; the scores are staged.

    Example: fraud-scoring score --lake L --date 2018-08-08
    """
    _night_job("score", settings, parse_dates(day, None, None))


@with_settings
def publish(
    settings: Settings,
    day: OptionalDay = None,
    first: FirstDay = None,
    last: LastDay = None,
    accept: Accept = None,
    reason: Why = None,
) -> None:
    """Gate 4, then the staged scores of a night, or of a backfill's nights, in one commit.

    Example: fraud-scoring publish --lake L --date 2018-08-08
    """
    dates = parse_dates(day, first, last)
    _night_job(
        "publish", settings, dates, acceptance=override_from_options("publish", accept, reason)
    )


@with_settings
def alerts(settings: Settings, day: Day) -> None:
    """One alert per card, at most as many as can be investigated.

    Example: fraud-scoring alerts --lake L --date 2018-08-08
    """
    _night_job("alerts", settings, parse_dates(day, None, None))


@with_settings
def monitor(settings: Settings, day: Day) -> None:
    """Drift of inputs, scores and calibration against the last 28 nights, and late rows.

    Example: fraud-scoring monitor --lake L --date 2018-08-08
    """
    _night_job("monitor", settings, parse_dates(day, None, None))


@with_settings
def report(settings: Settings, day: Day) -> None:
    """Write the page that the risk team opens in the morning, and the alert list as CSV.

    Example: fraud-scoring report --lake L --date 2018-08-08
    """
    only = parse_day(day, "--date")
    from jobs import report as job

    with open_lake(settings) as opened:
        page = job.write(opened, only)
    typer.echo(f"The report is in {page}")


@with_settings
def nightly(settings: Settings, day: Day) -> None:
    """All of a night's jobs in order, resuming after the last one that finished.

    Example: fraud-scoring nightly --lake L --date 2018-08-08
    """
    only = parse_day(day, "--date")
    from jobs import nightly as job

    with open_lake(settings) as opened:
        page = job.run(opened, only)
    typer.echo(f"The report is in {page}")


@with_settings
def backfill(
    settings: Settings,
    first: Annotated[str, typer.Option("--from", help="First night.")],
    last: Annotated[str, typer.Option("--to", help="Last night.")],
    reason: Annotated[str, typer.Option("--reason", help="Why, for whoever asks in a year.")],
    model: Annotated[
        str, typer.Option("--model", help="as-published, or an alias or version.")
    ] = "champion",
    starting_at: Annotated[
        str, typer.Option("--starting-at", help="ingest, features or score.")
    ] = "ingest",
) -> None:
    """Nights run again for their tables; the model is resolved once.

    Example: fraud-scoring backfill --lake L --from 2018-08-01 --to 2018-08-07
    --reason "re-delivery 4711"
    """
    dates = parse_dates(None, first, last)
    from jobs import backfill as job
    from jobs.deliveries.earlier_deliveries import default_delivery

    plan = job.BackfillPlan(dates, reason, model, starting_at)  # type: ignore[arg-type]
    with open_lake(settings) as opened:
        pages = job.run(opened, plan, default_delivery(opened))
    typer.echo(f"{len(pages)} nights are done again; the last report is in {pages[-1]}")


def _named_delivery(
    source: str | None, source_format: Any, mapping: str | None
) -> "Delivery | None":
    """What the arguments name, which is all of a delivery or nothing."""
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery

    if source and source_format and mapping:
        return Delivery(source, source_format, load_mapping(mapping))
    if source or source_format or mapping:
        raise UsageError(
            "--source, --format and --mapping do not stand together.",
            expected="all three, or none: then the delivery is the one that `nightly` reads.",
            remedy="add what is missing, or leave all three out.",
        )
    return None


def _usual_delivery(lake: "Lake") -> "Delivery":
    """What `nightly` would read; its module brings in all jobs, which others need not wait for."""
    from jobs.deliveries.earlier_deliveries import default_delivery

    return default_delivery(lake)


def _night_job(name: str, settings: Settings, dates: "Dates", **given: Any) -> None:
    """Run one job of a night under the night's lease; what is `given` goes to the job."""
    import importlib

    with open_lake(settings) as opened:
        # Read when there is a lake to work on: it takes seconds.
        from jobs.lake.nights import lease_nights, require_ingested

        job = importlib.import_module(f"jobs.{name}")
        require_ingested(opened, dates)
        with lease_nights(opened, dates) as night:
            job.run(night, **given)
