"""The command `fraud-scoring`: parses, loads settings, calls one job, turns problems into codes.

Jobs, Spark, torch and MLflow are imported inside the commands, so `--help` answers at once.
Exit codes: 0 done; 2 bad usage or settings; 3 a gate failed; 4 an input is missing or not
ready; 5 another run holds this night; 1 anything unexpected.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from feature_defs.problems import GateFailed, Problem
from jobs.cli_options import open_lake, open_spark, parse_dates, parse_day, with_settings
from jobs.failures import translate
from jobs.quality.acceptance import acceptance_of

if TYPE_CHECKING:
    from jobs.lake.delta_io import Dates
    from jobs.settings import Settings
else:
    # typer evaluates the annotations of commands; only `with_settings` looks at this one.
    Settings = object

app = typer.Typer(
    name="fraud-scoring",
    help="Batch fraud scoring: features, models, scores, gates and the morning's report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Day = Annotated[str, typer.Option("--date", help="The night's business date, YYYY-MM-DD.")]
OptionalDay = Annotated[str | None, typer.Option("--date", help="One night, YYYY-MM-DD.")]
FirstDay = Annotated[str | None, typer.Option("--from", help="First night of a range.")]
LastDay = Annotated[str | None, typer.Option("--to", help="Last night of a range.")]
Accept = Annotated[
    str | None,
    typer.Option("--accept", help="Overrule this job's gate for this run; needs --reason."),
]
Why = Annotated[str | None, typer.Option("--reason", help="Why; recorded and shown.")]
Model = Annotated[str, typer.Option("--model", help="Alias (champion, challenger) or version.")]


def main() -> None:
    """Entry point of the console script."""
    debug = "--debug" in sys.argv
    try:
        app(standalone_mode=True)
    except Problem as problem:
        _give_up(problem, debug=debug, cause=problem)
        sys.exit(problem.exit_code)
    except Exception as error:
        if known := translate(error):
            _give_up(known, debug=debug, cause=error)
            sys.exit(known.exit_code)
        if debug:
            raise
        from jobs.logs import visible

        first_line = str(error).strip().split("\n", 1)[0][:2000]
        typer.secho(
            f"Something unexpected happened: {type(error).__name__}: {visible(first_line)} "
            "What to do: run the command again with --debug and read the traceback.",
            err=True,
            fg="red",
        )
        sys.exit(1)


def _give_up(problem: Problem, *, debug: bool, cause: Exception) -> None:
    if debug:
        import traceback

        traceback.print_exception(cause)
    from jobs.logs import visible

    typer.secho(visible(str(problem)), err=True, fg="red")


@app.command()
@with_settings
def demo(settings: Settings) -> None:
    """The whole product in one command, on a small simulated bank.

    Example: fraud-scoring demo
    """
    from jobs import demo as job

    settings = settings.model_copy(update={"lake": settings.lake or job.DEFAULT_LAKE})
    with open_lake(settings, must_exist=False) as opened:
        job.run(opened)


@app.command()
@with_settings
def simulate(
    settings: Settings,
    out: Annotated[str, typer.Option("--out", help="Where the deliveries go.")],
    num_cards: Annotated[int, typer.Option("--num-cards", help="Cards of the bank.")],
    days: Annotated[int, typer.Option("--days", help="Days to simulate.")],
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same rows.")],
    first_day: Annotated[str, typer.Option(help="First day.")] = "2024-01-01",
) -> None:
    """Seeded synthetic transactions and delayed labels with known fraud scenarios.

    Example: fraud-scoring simulate --out bank --num-cards 1000 --days 60 --seed 1
    """
    from jobs.simulation.plan import SimulationPlan

    plan = SimulationPlan(
        out=out,
        num_cards=num_cards,
        num_days=days,
        seed=seed,
        first_day=parse_day(first_day, "--first-day"),
    )
    from jobs import simulate as job

    with open_spark(settings) as spark:
        job.simulate(spark, plan)
    typer.echo(f"The deliveries of {days} days are in {out}.")


@app.command()
@with_settings
def ingest(
    settings: Settings,
    source: Annotated[str, typer.Option("--source", help="Path or URI of the delivery.")],
    source_format: Annotated[Any, typer.Option("--format", help="delta, parquet or csv.")],
    mapping: Annotated[str, typer.Option("--mapping", help="Name or TOML file of a mapping.")],
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
    acceptance = acceptance_of("ingest", accept, reason)
    from jobs import ingest as job
    from jobs.delivery import Delivery, check_ready
    from jobs.lake.nights import hold
    from jobs.mapping import load_mapping

    delivery = Delivery(source, source_format, load_mapping(mapping), allow_empty)
    with open_lake(settings, must_exist=False) as opened:
        check_ready(opened, delivery, dates)
        opened.create()
        with hold(opened, dates) as night:
            job.run(night, delivery, acceptance)


def _night_job(name: str, settings: Settings, dates: "Dates", **given: Any) -> None:
    """Run one job of a night under the night's lease; what is `given` goes to the job."""
    import importlib

    from jobs.lake.nights import hold, require_ingested

    job = importlib.import_module(f"jobs.{name}")
    with open_lake(settings) as opened:
        require_ingested(opened, dates)
        with hold(opened, dates) as night:
            job.run(night, **given)


@app.command()
@with_settings
def features(
    settings: Settings,
    day: OptionalDay = None,
    first: FirstDay = None,
    last: LastDay = None,
    accept: Accept = None,
    reason: Why = None,
) -> None:
    """Point-in-time features of the nights' transactions.

    Example: fraud-scoring features --lake L --date 2018-08-08
    """
    dates = parse_dates(day, first, last)
    _night_job("features", settings, dates, acceptance=acceptance_of("features", accept, reason))


@app.command()
@with_settings
def train(
    settings: Settings,
    as_of: Annotated[str, typer.Option("--as-of", help="Only what was known before this day.")],
    recipe: Annotated[str, typer.Option("--recipe", help="Which model, how trained.")],
    num_workers: Annotated[int, typer.Option("--num-workers", help="Training processes.")],
) -> None:
    """Train a challenger from what was known before a day, 00:00 UTC.

    Example: fraud-scoring train --lake L --as-of 2018-07-25 --recipe lstm_autoencoder
    --num-workers 2
    """
    moment = parse_day(as_of, "--as-of")
    from fraud_models.recipes import recipe as find_recipe
    from jobs import train as job
    from jobs.training_snapshot import TrainingPlan

    plan = TrainingPlan(moment, recipe, find_recipe(recipe), num_workers)
    with open_lake(settings) as opened:
        version = job.run(opened, plan)
    typer.echo(f"Model version {version} is the challenger.")


@app.command()
@with_settings
def evaluate(
    settings: Settings,
    first: Annotated[str, typer.Option("--from", help="First night.")],
    last: Annotated[str, typer.Option("--to", help="Last night.")],
    model: Model = "challenger",
) -> None:
    """Figures of a model on nights whose labels are mature, beside the baselines.

    Example: fraud-scoring evaluate --lake L --from 2018-07-25 --to 2018-07-31
    """
    dates = parse_dates(None, first, last)
    from jobs import evaluate as job

    with open_lake(settings) as opened:
        evaluation = job.run(opened, dates, model)
    job.show(evaluation)


@app.command()
@with_settings
def promote(
    settings: Settings,
    model: Model = "challenger",
    accept: Accept = None,
    reason: Why = None,
) -> None:
    """Gate 3: put a model into service when its latest evaluation holds against the champion's.

    Example: fraud-scoring promote --lake L
    """
    acceptance = acceptance_of("promote", accept, reason)
    from jobs import promote as job

    with open_lake(settings) as opened:
        version = job.run(opened, model, acceptance)
    typer.echo(f"Model version {version} is the champion.")


@app.command()
@with_settings
def score(settings: Settings, day: Day) -> None:
    """Score every transaction of a night with the champion; the scores are staged.

    Example: fraud-scoring score --lake L --date 2018-08-08
    """
    _night_job("score", settings, parse_dates(day, None, None))


@app.command()
@with_settings
def publish(settings: Settings, day: Day, accept: Accept = None, reason: Why = None) -> None:
    """Gate 4, then the staged scores of a night in one commit.

    Example: fraud-scoring publish --lake L --date 2018-08-08
    """
    dates = parse_dates(day, None, None)
    _night_job("publish", settings, dates, acceptance=acceptance_of("publish", accept, reason))


@app.command()
@with_settings
def alerts(settings: Settings, day: Day) -> None:
    """One alert per card, at most as many as can be investigated.

    Example: fraud-scoring alerts --lake L --date 2018-08-08
    """
    _night_job("alerts", settings, parse_dates(day, None, None))


@app.command()
@with_settings
def monitor(settings: Settings, day: Day) -> None:
    """Drift of inputs, scores and calibration against the last 28 nights, and late rows.

    Example: fraud-scoring monitor --lake L --date 2018-08-08
    """
    _night_job("monitor", settings, parse_dates(day, None, None))


@app.command()
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


@app.command()
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


@app.command()
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
    from jobs.nightly import usual_delivery

    plan = job.BackfillPlan(dates, reason, model, starting_at)  # type: ignore[arg-type]
    with open_lake(settings) as opened:
        pages = job.run(opened, plan, usual_delivery(opened))
    typer.echo(f"{len(pages)} nights are done again; the last report is in {pages[-1]}")


@app.command()
@with_settings
def explain(
    settings: Settings,
    transaction_id: Annotated[str, typer.Argument(help="A scored transaction.")],
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Audit the score; exit 3 when it does not hold.")
    ] = False,
) -> None:
    """Why: observed, expected and contribution of every feature, and the card's recent events.

    Example: fraud-scoring explain --lake L 1234567
    """
    from jobs import explain as job

    with open_lake(settings) as opened:
        if not as_published:
            job.show(job.run(opened, transaction_id))
            return
        explanation, audit = job.audit(opened, transaction_id)
    job.show(explanation)
    audit.show()
    if not audit.holds:
        raise typer.Exit(GateFailed.exit_code)


@app.command()
@with_settings
def maintain(
    settings: Settings,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
) -> None:
    """Sweeps dead staging, compacts finished nights, vacuums within the audit horizon.

    Example: fraud-scoring maintain --lake L
    """
    from jobs import maintain as job

    with open_lake(settings) as opened:
        chores = job.plan(opened)
        job.show(job.foretell(chores) if dry_run else job.run(opened, chores))


@app.command()
@with_settings
def doctor(settings: Settings) -> None:
    """What is wrong with this machine or this lake, and what to do.

    Example: fraud-scoring doctor --lake L
    """
    from jobs import doctor as job

    findings = job.examine(settings)
    job.show(findings)
    if any(finding.status == "wrong" for finding in findings):
        raise typer.Exit(1)
