"""The sub-commands that simulate a bank, inspect a lake or maintain it.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from typing import Annotated

import typer

from feature_defs.errors import GateFailed
from jobs.cli.options import Settings, open_lake, open_spark, parse_day, with_settings


@with_settings
def demo(settings: Settings) -> None:
    """Run the whole product on a small simulated bank.

    Example: fraud-scoring demo
    """
    from jobs import demo as job

    settings = settings.model_copy(update={"lake": settings.lake or job.DEFAULT_LAKE})
    with open_lake(settings, must_exist=False) as opened:
        job.run(opened)


@with_settings
def simulate(
    settings: Settings,
    out: Annotated[str, typer.Option("--out", help="Folder or URI for the deliveries.")],
    num_cards: Annotated[int, typer.Option("--num-cards", help="Number of cards of the bank.")],
    days: Annotated[int, typer.Option("--days", help="Number of days to simulate.")],
    seed: Annotated[int, typer.Option("--seed", help="Random seed; same seed, same rows.")],
    first_day: Annotated[str, typer.Option(help="First day, YYYY-MM-DD.")] = "2024-01-01",
) -> None:
    """Generate transactions and delayed labels with known fraud scenarios from a seed.

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


@with_settings
def mapping(
    settings: Settings,
    source: Annotated[str, typer.Option(help="Folder, file or URI of the delivery.")],
    format_: Annotated[str, typer.Option("--format", help="delta, parquet, csv or json.")],
    name: Annotated[str, typer.Option(help="Name of the new mapping.")] = "bank",
) -> None:
    """Look at a delivery and print a commented mapping to begin with.

    Example: fraud-scoring mapping --source bank --format csv > bank.toml
    """
    from jobs import mapping as job

    typer.echo(job.run(source, format_, name), nl=False)


@with_settings
def explain(
    settings: Settings,
    transaction_id: Annotated[str, typer.Argument(help="Id of a scored transaction.")],
    as_published: Annotated[
        bool,
        typer.Option("--as-published", help="Audit the score; exit 3 if it is not reproduced."),
    ] = False,
) -> None:
    """Explain a score: observed and expected value and contribution of every feature.

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
    if not audit.reproduced:
        raise typer.Exit(GateFailed.exit_code)


@with_settings
def maintain(
    settings: Settings,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the tasks.")] = False,
) -> None:
    """Delete dead staging folders, compact finished nights, vacuum files past the audit horizon.

    Example: fraud-scoring maintain --lake L
    """
    from jobs import maintain as job

    with open_lake(settings) as opened:
        tasks = job.plan(opened)
        job.show(job.preview(tasks) if dry_run else job.run(opened, tasks))


@with_settings
def doctor(settings: Settings) -> None:
    """Check this machine and the lake; list what is wrong and what to do.

    Example: fraud-scoring doctor --lake L
    """
    from jobs import doctor as job

    results = job.examine(settings)
    job.show(results)
    if any(result.status == "wrong" for result in results):
        raise typer.Exit(1)
