"""The sub-commands that make a bank, look into a lake, or look after it.

Everything heavy is imported inside the commands, so `--help` answers at once.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from feature_defs.errors import GateFailed
from jobs.cli.options import open_lake, open_spark, parse_day, with_settings

if TYPE_CHECKING:
    from jobs.runtime.settings import Settings
else:
    # typer evaluates the annotations of commands; only `with_settings` looks at this one.
    Settings = object


@with_settings
def demo(settings: Settings) -> None:
    """The whole product in one command, on a small simulated bank.

    Example: fraud-scoring demo
    """
    from jobs import demo as job

    settings = settings.model_copy(update={"lake": settings.lake or job.DEFAULT_LAKE})
    with open_lake(settings, must_exist=False) as opened:
        job.run(opened)


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
        job.show(job.preview(chores) if dry_run else job.run(opened, chores))


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
