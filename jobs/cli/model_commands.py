"""The sub-commands that make models, judge them and put them into service.

Everything heavy is imported inside the commands, so `--help` answers at once.
"""

from typing import TYPE_CHECKING, Annotated

import typer

from fraud_models.recipes import RECIPES
from jobs.cli.options import (
    Accept,
    Why,
    open_lake,
    parse_dates,
    parse_day,
    with_settings,
)
from jobs.quality.overrides import override_from_options

if TYPE_CHECKING:
    from jobs.runtime.settings import Settings
else:
    # typer evaluates the annotations of commands; only `with_settings` looks at this one.
    Settings = object

Recipe = Annotated[
    str, typer.Option("--recipe", help=f"Which model, how trained: {', '.join(RECIPES)}.")
]
Model = Annotated[str, typer.Option("--model", help="Alias (champion, challenger) or version.")]


@with_settings
def train(
    settings: Settings,
    as_of: Annotated[str, typer.Option("--as-of", help="Only what was known before this day.")],
    recipe: Recipe,
    num_workers: Annotated[int, typer.Option("--num-workers", help="Training processes.")],
) -> None:
    """Train a challenger from what was known before a day, 00:00 UTC.

    Example: fraud-scoring train --lake L --as-of 2018-07-25 --recipe lstm_autoencoder
    --num-workers 2
    """
    moment = parse_day(as_of, "--as-of")
    from fraud_models.recipes import recipe as find_recipe
    from jobs import train as job
    from jobs.models.training_plan import TrainingPlan

    plan = TrainingPlan(moment, recipe, find_recipe(recipe), num_workers)
    with open_lake(settings) as opened:
        version = job.run(opened, plan)
    typer.echo(f"Model version {version} is the challenger.")


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


@with_settings
def backtest(
    settings: Settings,
    first: Annotated[str, typer.Option("--from", help="First night; the first model is of it.")],
    last: Annotated[str, typer.Option("--to", help="Last night.")],
    recipe: Recipe,
    retrain_days: Annotated[
        int, typer.Option("--retrain-days", help="Days between two trainings.")
    ] = 7,
    num_workers: Annotated[int, typer.Option("--num-workers", help="Training processes.")] = 1,
    json_file: Annotated[
        str | None, typer.Option("--json", help="File for the figures, night by night.")
    ] = None,
) -> None:
    """Replay nights with a recipe: train, judge the nights that follow, train again.

    Example: fraud-scoring backtest --lake L --from 2018-07-18 --to 2018-08-14 --recipe
    rarity_autoencoder
    """
    dates = parse_dates(None, first, last)
    from fraud_models.recipes import recipe as find_recipe
    from fraud_models.storage import write_bytes
    from jobs import backtest as job

    plan = job.BacktestPlan(dates, recipe, find_recipe(recipe), num_workers, retrain_days)
    with open_lake(settings) as opened:
        found = job.run(opened, plan)
    job.show(found)
    if json_file is not None:
        write_bytes(json_file, job.to_json(found).encode())


@with_settings
def promote(
    settings: Settings,
    model: Model = "challenger",
    accept: Accept = None,
    reason: Why = None,
) -> None:
    """Gate 3: put a model into service when its latest evaluation holds against the champion's.

    Without a champion it has to hold against the isolation forest on the same rows.

    Example: fraud-scoring promote --lake L
    """
    acceptance = override_from_options("promote", accept, reason)
    from jobs import promote as job

    with open_lake(settings) as opened:
        version = job.run(opened, model, acceptance)
    typer.echo(f"Model version {version} is the champion.")


@with_settings
def export(
    settings: Settings,
    out: Annotated[str, typer.Option("--out", help="File to write, or its URI.")],
    model: Model = "champion",
) -> None:
    """A model as one ONNX file, compared in onnxruntime with the model itself.

    Example: fraud-scoring export --lake L --model champion --out champion.onnx
    """
    from jobs import export as job

    with open_lake(settings) as opened:
        version = job.run(opened, model, out)
    typer.echo(f"Model version {version} is in {out}.")
