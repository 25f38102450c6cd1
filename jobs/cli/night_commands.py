"""The sub-commands that process nights: each parses its options and runs the job of its name.

Heavy modules are imported inside the commands, so that `--help` answers at once.
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
    Reason,
    Settings,
    open_lake,
    parse_dates,
    parse_day,
    with_settings,
)
from jobs.quality.overrides import override_from_options

if TYPE_CHECKING:
    from jobs.deliveries.source import Delivery
    from jobs.lake.dates import Dates

Day = Annotated[str, typer.Option("--date", help="Business date of the night, YYYY-MM-DD.")]


@with_settings
def ingest(
    settings: Settings,
    source: Annotated[
        str | None,
        typer.Option("--source", help="Path or URI of the delivery; default: that of `nightly`."),
    ] = None,
    source_format: Annotated[
        Any, typer.Option("--format", help="delta, parquet, csv or json.")
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option("--mapping", help="handbook, simulated, or the path of a TOML file."),
    ] = None,
    day: OptionalDay = None,
    first: FirstDay = None,
    last: LastDay = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Publish a night without rows.")
    ] = False,
    accept: Accept = None,
    reason: Reason = None,
) -> None:
    """Write source rows to `transactions` and `labels`, invalid rows to `quarantine`.

    Example: fraud-scoring ingest --lake L --source bank --format parquet --mapping simulated
    --from 2024-01-01 --to 2024-01-31
    """
    dates = parse_dates(day, first, last)
    override = override_from_options("ingest", accept, reason)
    from jobs import ingest as job
    from jobs.deliveries.delivery_history import default_delivery
    from jobs.deliveries.readiness import check_ready
    from jobs.lake.nights import lease_nights

    from_options = _delivery_from_options(source, source_format, mapping)
    with open_lake(settings, must_exist=not (from_options or settings.source)) as opened:
        delivery = replace(from_options or default_delivery(opened), allow_empty=allow_empty)
        check_ready(opened, delivery, dates)
        opened.create()
        with lease_nights(opened, dates) as night:
            job.run(night, delivery, override)


@with_settings
def features(
    settings: Settings,
    day: OptionalDay = None,
    first: FirstDay = None,
    last: LastDay = None,
    accept: Accept = None,
    reason: Reason = None,
    describe: Annotated[
        bool,
        typer.Option(
            "--describe",
            help="Only list the features: meaning, clock, window, and with --lake which are not "
            "available.",
        ),
    ] = False,
) -> None:
    """Compute point-in-time features for the transactions of the nights.

    Example: fraud-scoring features --lake L --date 2018-08-08
    """
    if describe:
        if any((day, first, last, accept, reason)):
            raise UsageError(
                "--describe is given together with options for a night.",
                expected="--describe without them: it lists features and reads no night.",
                remedy="remove --describe or the other options.",
            )
        from jobs.report_pages.feature_table import show

        show(_transaction_columns(settings))
        return
    dates = parse_dates(day, first, last)
    _run_night_job(
        "features", settings, dates, override=override_from_options("features", accept, reason)
    )


def _transaction_columns(settings: Settings) -> dict[str, str] | None:
    """Return the columns of the lake's `transactions` by type; None if no lake is given."""
    if not settings.lake:
        return None
    from jobs.lake.tables import TRANSACTIONS

    with open_lake(settings) as opened:
        return dict(opened.read(TRANSACTIONS).dtypes)


@with_settings
def score(settings: Settings, day: Day) -> None:
    """Score every transaction of a night with the champion and stage the scores.

    Example: fraud-scoring score --lake L --date 2018-08-08
    """
    _run_night_job("score", settings, parse_dates(day, None, None))


@with_settings
def publish(
    settings: Settings,
    day: OptionalDay = None,
    first: FirstDay = None,
    last: LastDay = None,
    accept: Accept = None,
    reason: Reason = None,
) -> None:
    """Publish staged scores in one commit when they pass gate 4.

    Example: fraud-scoring publish --lake L --date 2018-08-08
    """
    dates = parse_dates(day, first, last)
    _run_night_job(
        "publish", settings, dates, override=override_from_options("publish", accept, reason)
    )


@with_settings
def alerts(settings: Settings, day: Day) -> None:
    """Select at most one alert per card, up to the alert budget.

    Example: fraud-scoring alerts --lake L --date 2018-08-08
    """
    _run_night_job("alerts", settings, parse_dates(day, None, None))


@with_settings
def monitor(settings: Settings, day: Day) -> None:
    """Measure drift of inputs, scores and calibration against the last 28 nights.

    Example: fraud-scoring monitor --lake L --date 2018-08-08
    """
    _run_night_job("monitor", settings, parse_dates(day, None, None))


@with_settings
def report(settings: Settings, day: Day) -> None:
    """Write the night's report page and the alert list as CSV.

    Example: fraud-scoring report --lake L --date 2018-08-08
    """
    business_date = parse_day(day, "--date")
    from jobs import report as job

    with open_lake(settings) as opened:
        page = job.write(opened, business_date)
    typer.echo(f"The report is in {page}")


@with_settings
def nightly(settings: Settings, day: Day) -> None:
    """Run all jobs of a night in order; resume after the last finished job.

    Example: fraud-scoring nightly --lake L --date 2018-08-08
    """
    business_date = parse_day(day, "--date")
    from jobs import nightly as job

    with open_lake(settings) as opened:
        page = job.run(opened, business_date)
    typer.echo(f"The report is in {page}")


@with_settings
def backfill(
    settings: Settings,
    first: Annotated[str, typer.Option("--from", help="First night.")],
    last: Annotated[str, typer.Option("--to", help="Last night.")],
    reason: Annotated[
        str, typer.Option("--reason", help="Reason for the backfill; kept for audit.")
    ],
    model: Annotated[
        str, typer.Option("--model", help="as-published, or a model's alias or version.")
    ] = "champion",
    starting_at: Annotated[
        str, typer.Option("--starting-at", help="First job: ingest, features or score.")
    ] = "ingest",
) -> None:
    """Process nights again and replace their tables; resolve the model once.

    Example: fraud-scoring backfill --lake L --from 2018-08-01 --to 2018-08-07
    --reason "re-delivery 4711"
    """
    dates = parse_dates(None, first, last)
    from jobs import backfill as job
    from jobs.deliveries.delivery_history import default_delivery

    plan = job.BackfillPlan(dates, reason, model, starting_at)  # type: ignore[arg-type]
    with open_lake(settings) as opened:
        pages = job.run(opened, plan, default_delivery(opened))
    typer.echo(f"{len(pages)} nights are processed again; the last report is in {pages[-1]}")


def _delivery_from_options(
    source: str | None, source_format: Any, mapping: str | None
) -> "Delivery | None":
    """Return the delivery that the options name, or None when there are none.

    Raises:
        UsageError: only some of the three options are given.
    """
    from jobs.deliveries.mapping import load_mapping
    from jobs.deliveries.source import Delivery

    if source and source_format and mapping:
        return Delivery(source, source_format, load_mapping(mapping))
    if source or source_format or mapping:
        raise UsageError(
            "--source, --format and --mapping must be given together.",
            expected="all three, or none: then `ingest` reads the delivery that `nightly` reads.",
            remedy="add the missing options, or remove all three.",
        )
    return None


def _run_night_job(name: str, settings: Settings, dates: "Dates", **arguments: Any) -> None:
    """Lease the nights and run one job on them with these arguments."""
    import importlib

    with open_lake(settings) as opened:
        # Imported only when the lake exists, because the import takes seconds.
        from jobs.lake.nights import lease_nights, require_ingested

        job = importlib.import_module(f"jobs.{name}")
        require_ingested(opened, dates)
        with lease_nights(opened, dates) as night:
            job.run(night, **arguments)
