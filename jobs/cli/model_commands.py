"""The sub-commands that train, evaluate, promote and export models.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from typing import Annotated

import typer

from fraud_models.config import ModelConfig
from fraud_models.recipes import RECIPES, with_own_recipes
from fraud_models.recipes import recipe as find_recipe
from jobs.cli.options import (
    Accept,
    Reason,
    Settings,
    open_lake,
    parse_dates,
    parse_day,
    with_settings,
)
from jobs.quality.overrides import override_from_options

Recipe = Annotated[
    str,
    typer.Option(
        "--recipe",
        help=f"Model and how it is trained: {', '.join(RECIPES)}, or one of the setting `recipes`.",
    ),
]
Model = Annotated[str, typer.Option("--model", help="Alias (champion, challenger) or version.")]


def _config(settings: Settings, name: str) -> ModelConfig:
    """Return the config of a built-in recipe or of one that the setting `recipes` adds."""
    return find_recipe(name, with_own_recipes(settings.recipes))


@with_settings
def train(
    settings: Settings,
    as_of: Annotated[str, typer.Option("--as-of", help="Train on what was known before this day.")],
    recipe: Recipe,
    num_workers: Annotated[
        int, typer.Option("--num-workers", help="Number of training processes.")
    ],
) -> None:
    """Train a challenger on what was known before a day, 00:00 UTC.

    Example: fraud-scoring train --lake L --as-of 2018-07-25 --recipe lstm_autoencoder
    --num-workers 2
    """
    moment = parse_day(as_of, "--as-of")
    from jobs import train as job
    from jobs.models.training_plan import TrainingPlan

    plan = TrainingPlan(moment, recipe, _config(settings, recipe), num_workers)
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
    """Evaluate a model and the baselines on nights whose labels are mature.

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
    first: Annotated[
        str, typer.Option("--from", help="First night; the first model is trained as of it.")
    ],
    last: Annotated[str, typer.Option("--to", help="Last night.")],
    recipe: Recipe,
    retrain_days: Annotated[
        int, typer.Option("--retrain-days", help="Days between two trainings.")
    ] = 7,
    num_workers: Annotated[
        int, typer.Option("--num-workers", help="Number of training processes.")
    ] = 1,
    json_file: Annotated[
        str | None, typer.Option("--json", help="File to write the metrics of every night to.")
    ] = None,
) -> None:
    """Replay nights with a recipe: train, evaluate the following nights, train again.

    Example: fraud-scoring backtest --lake L --from 2018-07-18 --to 2018-08-14 --recipe
    rarity_autoencoder
    """
    dates = parse_dates(None, first, last)
    from fraud_models.storage import write_bytes
    from jobs import backtest as job

    plan = job.BacktestPlan(dates, recipe, _config(settings, recipe), num_workers, retrain_days)
    with open_lake(settings) as opened:
        result = job.run(opened, plan)
    job.show(result)
    if json_file is not None:
        write_bytes(json_file, job.to_json(result).encode())


@with_settings
def promote(
    settings: Settings,
    model: Model = "challenger",
    accept: Accept = None,
    reason: Reason = None,
) -> None:
    """Make a model the champion when it passes gate 3.

    Its newest evaluation must match or beat the champion on the same rows. Without a champion it
    must match or beat the isolation forest.

    Example: fraud-scoring promote --lake L
    """
    override = override_from_options("promote", accept, reason)
    from jobs import promote as job

    with open_lake(settings) as opened:
        version = job.run(opened, model, override)
    typer.echo(f"Model version {version} is the champion.")


@with_settings
def export(
    settings: Settings,
    out: Annotated[str, typer.Option("--out", help="Path or URI of the file to write.")],
    model: Model = "champion",
) -> None:
    """Write a model as one ONNX file and check it in onnxruntime against the model.

    Example: fraud-scoring export --lake L --model champion --out champion.onnx
    """
    from jobs import export as job

    with open_lake(settings) as opened:
        version = job.run(opened, model, out)
    typer.echo(f"Model version {version} is in {out}.")
