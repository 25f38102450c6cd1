"""Many recipes backtested on the same nights: which architecture, what each part is worth, luck.

    python tests/benchmarks/model_choice.py architectures --lake L --from 2018-06-27 --to 2018-07-03
    python tests/benchmarks/model_choice.py reported --lake L --from 2018-07-18 --to 2018-08-14
    python tests/benchmarks/model_choice.py ablations --lake L --from 2018-07-18 --to 2018-08-14

Every line of the tables is what `fraud-scoring backtest` finds for that config, and but in
`ablations` the baselines of the first recipe too. `reported` and `ablations` train each recipe with
three seeds: a line is the mean over them, of figures and of the ends of their intervals, and tells
how far seeds lie apart. Seconds of scoring hold the baselines where they were found. What is found
is kept in the file `--results`, a JSON line per lake, config and nights, and not found again when
the command runs again: hours of training can be stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from fraud_models.config import ModelConfig
    from jobs.backtest import BacktestPlan
    from jobs.lake.delta_io import Lake

LEVELS = ("semi_supervised_autoencoder", "rarity_autoencoder", "unsupervised_autoencoder")
ARCHITECTURES = (
    "lstm_autoencoder",
    "gru_autoencoder",
    "convolution_autoencoder",
    "transformer_autoencoder",
    "feed_forward_autoencoder",
    "adversarial_autoencoder",
)
PARTS = ("history", "label_columns", "likelihoods", "rarities")
SEEDS = (7, 8, 9)
FIGURES = {"roc_auc": "AUC ROC", "average_precision": "average precision", "cp_at_k": "CP@k"}
WIDTH = 180


def architectures() -> list[ModelConfig]:
    """Every architecture at every level of supervision."""
    from fraud_models.recipes import recipe

    found = []
    for architecture in ARCHITECTURES:
        shape = recipe(architecture).network
        changes = {
            name: getattr(shape, name)
            for name in ("architecture", "num_layers", "adversarial_weight")
        }
        for level in LEVELS:
            base = recipe(level)
            network = replace(base.network, **changes)
            name = f"{base.supervision}_{architecture}"
            found.append(replace(base, recipe=name, network=network))
    return found


def reported() -> list[ModelConfig]:
    """The two recipes that are reported."""
    return _with_seeds(LEVELS[:2])


def ablations() -> list[ModelConfig]:
    """The rarity_autoencoder, and the same without one of its parts."""
    return _with_seeds((LEVELS[1], *(f"without_{part}" for part in PARTS)))


def _with_seeds(names: tuple[str, ...]) -> list[ModelConfig]:
    from fraud_models.recipes import recipe

    return [
        replace(base, optimisation=replace(base.optimisation, seed=seed))
        for base in map(recipe, names)
        for seed in SEEDS
    ]


SETS: dict[str, Callable[[], list[ModelConfig]]] = {
    "architectures": architectures,
    "reported": reported,
    "ablations": ablations,
}
WITH_BASELINES = ("architectures", "reported")


def asked(lake: Lake, plan: BacktestPlan) -> dict[str, Any]:
    """What a line of the results answers."""
    return {
        "lake": lake.uri,
        "k": lake.settings.alert_budget,
        "from": str(plan.dates.first),
        "to": str(plan.dates.last),
        "config": plan.config.to_dict(),
    }


def backtested(lake: Lake, plan: BacktestPlan) -> dict[str, Any]:
    """Figures of a config, with those of the baselines beside it where the plan wants them."""
    from jobs import backtest

    found = backtest.run(lake, plan)
    plain = backtest.as_plain(found)
    return {
        **asked(lake, plan),
        "train_s": round(sum(stretch.train_s for stretch in found.stretches)),
        "score_s": round(sum(stretch.score_s for stretch in found.stretches)),
        "overall": plain["overall"],
    }


def known_lines(results: Path) -> list[dict[str, Any]]:
    """The lines of a results file; the last one may have been cut when the command was stopped."""
    if not results.exists():
        return []
    whole, newline, cut = results.read_text().rpartition("\n")
    try:
        lines = [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise typer.BadParameter(f"{results} is no file of results: {error}") from error
    if cut and lines:
        results.write_text(whole + newline)
    return lines


def is_answer(line: dict[str, Any], lake: Lake, plan: BacktestPlan) -> bool:
    """Whether a line answers a plan, with the baselines if it wants them."""
    wanted = asked(lake, plan)
    has_baselines = len(line.get("overall", {})) > 1
    same = {name: line.get(name) for name in wanted} == wanted
    return same and (has_baselines or not plan.with_baselines)


def show(lines: list[dict[str, Any]], title: str) -> None:
    """Print what was found, the baselines last."""
    table = Table(title=title)
    table.add_column("recipe", no_wrap=True)
    for heading in (*FIGURES.values(), "train s", "score s"):
        table.add_column(heading, justify="right", no_wrap=True)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_name.setdefault(line["config"]["recipe"], []).append(line)
    for name, found in by_name.items():
        cells = [_cell([line["overall"][name][figure] for line in found]) for figure in FIGURES]
        seconds = (f"{fmean(line[kind] for line in found):.0f}" for kind in ("train_s", "score_s"))
        table.add_row(name, *cells, *seconds)
    own, beside = next(iter(by_name.items()))
    for baseline in (name for name in beside[0]["overall"] if name != own):
        found = [line["overall"][baseline] for line in beside if baseline in line["overall"]]
        cells = [_cell([figures[figure] for figures in found]) for figure in FIGURES]
        table.add_row(f"{baseline} ({own}'s columns)", *cells, "", "")
    Console(width=WIDTH).print(table)


def _cell(found: list[dict[str, Any]]) -> str:
    """Mean over seeds, with the ends of the interval and how far apart seeds are."""
    values = [mean["value"] for mean in found]
    if None in values:
        return "not defined"
    told = []
    if all(mean["interval"] for mean in found):
        low, high = (fmean(mean["interval"][end] for mean in found) for end in (0, 1))
        told.append(f"{low:.3f} to {high:.3f}")
    if len(values) > 1:
        told.append(f"±{(max(values) - min(values)) / 2:.3f}")
    return f"{fmean(values):.3f}" + (f" ({', '.join(told)})" if told else "")


def main(
    what: Annotated[str, typer.Argument(help=f"One of: {', '.join(SETS)}.")],
    lake: Annotated[str, typer.Option(help="A lake with features and mature labels.")],
    first: Annotated[str, typer.Option("--from", help="First night.")],
    last: Annotated[str, typer.Option("--to", help="Last night.")],
    results: Annotated[str, typer.Option(help="File that keeps what was found.")] = "results.jsonl",
    num_workers: Annotated[int, typer.Option(help="Training processes.")] = 1,
) -> None:
    """Backtest all configs of a set and print them as one table."""
    from jobs.backtest import BacktestPlan
    from jobs.lake.dates import Dates
    from jobs.lake.delta_io import Lake
    from jobs.runtime.settings import load_settings
    from jobs.runtime.spark_session import open_session

    if what not in SETS:
        raise typer.BadParameter(f"{what} is none of: {', '.join(SETS)}")
    dates = Dates(date.fromisoformat(first), date.fromisoformat(last))
    settings = load_settings(None, {"lake": lake})
    opened = Lake(open_session(settings), settings)
    known = known_lines(Path(results))
    lines: list[dict[str, Any]] = []
    configs = SETS[what]()
    for config in configs:
        # Beside the first recipe, whose columns are the most, and with its seeds.
        beside = what in WITH_BASELINES and config.recipe == configs[0].recipe
        plan = BacktestPlan(dates, config.recipe, config, num_workers, with_baselines=beside)
        same = [line for line in known if is_answer(line, opened, plan)]
        found = same[0] if same else backtested(opened, plan)
        if not same:
            with Path(results).open("a") as file:
                file.write(json.dumps(found) + "\n")
        lines.append(found)
    show(lines, f"{what}, {dates}")


if __name__ == "__main__":
    typer.run(main)
