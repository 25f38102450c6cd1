"""Backtest many recipes on the same nights: architectures, ablations, and variation over seeds.

    python tests/benchmarks/model_choice.py architectures --lake L --from 2018-06-27 --to 2018-07-03
    python tests/benchmarks/model_choice.py reported --lake L --from 2018-07-18 --to 2018-08-14
    python tests/benchmarks/model_choice.py ablations --lake L --from 2018-07-18 --to 2018-08-14

Each line of the table is the result of `fraud-scoring backtest` for one config. The first recipe
is also compared with the baselines, except in `ablations`. `reported` and `ablations` train each
recipe with three seeds: a line then shows means over the seeds, of metrics and of both ends of
their intervals, and half the range of the seeds. Where baselines were computed, seconds of scoring
include them. Results are appended to the file `--results`, one JSON line per lake, config and
nights, and are reused: hours of training can be interrupted and continued.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer
from ablations import ABLATIONS
from benchmark_lake import FirstNight, LakeFolder, LastNight, dates_between, open_lake
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
SEEDS = (7, 8, 9)
METRICS = {"roc_auc": "AUC ROC", "average_precision": "average precision", "cp_at_k": "CP@k"}
WIDTH = 180


def architectures() -> list[ModelConfig]:
    """Return every architecture at every level of supervision."""
    from fraud_models.recipes import recipe

    configs = []
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
            configs.append(replace(base, recipe=name, network=network))
    return configs


def reported() -> list[ModelConfig]:
    """Return the two reported recipes, with every seed."""
    return _with_seeds([_recipe(name) for name in LEVELS[:2]])


def ablations() -> list[ModelConfig]:
    """Return the rarity_autoencoder and the same without one of its parts, with every seed."""
    return _with_seeds([_recipe(LEVELS[1]), *(config() for config in ABLATIONS.values())])


def _recipe(name: str) -> ModelConfig:
    from fraud_models.recipes import recipe

    return recipe(name)


def _with_seeds(configs: list[ModelConfig]) -> list[ModelConfig]:
    return [
        replace(config, optimisation=replace(config.optimisation, seed=seed))
        for config in configs
        for seed in SEEDS
    ]


SETS: dict[str, Callable[[], list[ModelConfig]]] = {
    "architectures": architectures,
    "reported": reported,
    "ablations": ablations,
}
WITH_BASELINES = ("architectures", "reported")


def key_of(lake: Lake, plan: BacktestPlan) -> dict[str, Any]:
    """Return the fields that identify a result."""
    return {
        "lake": lake.uri,
        "k": lake.settings.alert_budget,
        "from": str(plan.dates.first),
        "to": str(plan.dates.last),
        "config": plan.config.to_dict(),
    }


def run_backtest(lake: Lake, plan: BacktestPlan) -> dict[str, Any]:
    """Backtest a config, and the baselines if the plan includes them; return a result line."""
    from jobs import backtest

    result = backtest.run(lake, plan)
    return {
        **key_of(lake, plan),
        "train_s": round(sum(period.train_s for period in result.periods)),
        "score_s": round(sum(period.score_s for period in result.periods)),
        "overall": backtest.as_plain(result)["overall"],
    }


def read_results(results: Path) -> list[dict[str, Any]]:
    """Read a results file; drop a last line that an interrupted command left incomplete."""
    if not results.exists():
        return []
    complete, newline, incomplete = results.read_text().rpartition("\n")
    try:
        lines = [json.loads(line) for line in complete.splitlines()]
    except ValueError as error:
        raise typer.BadParameter(f"{results} is not a file of results: {error}") from error
    if incomplete and lines:
        results.write_text(complete + newline)
    return lines


def is_result_of(line: dict[str, Any], lake: Lake, plan: BacktestPlan) -> bool:
    """Return whether a line is the result of a plan, with the baselines if it includes them."""
    key = key_of(lake, plan)
    has_baselines = len(line.get("overall", {})) > 1
    same = {name: line.get(name) for name in key} == key
    return same and (has_baselines or not plan.with_baselines)


def show(lines: list[dict[str, Any]], title: str) -> None:
    """Print the results as a table, the baselines last."""
    table = Table(title=title)
    table.add_column("recipe", no_wrap=True)
    for heading in (*METRICS.values(), "train s", "score s"):
        table.add_column(heading, justify="right", no_wrap=True)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_name.setdefault(line["config"]["recipe"], []).append(line)
    for name, runs in by_name.items():
        cells = [_cell([run["overall"][name][metric] for run in runs]) for metric in METRICS]
        seconds = (f"{fmean(run[kind] for run in runs):.0f}" for kind in ("train_s", "score_s"))
        table.add_row(name, *cells, *seconds)
    first, runs = next(iter(by_name.items()))
    for baseline in (name for name in runs[0]["overall"] if name != first):
        beside = [run["overall"][baseline] for run in runs if baseline in run["overall"]]
        cells = [_cell([metrics[metric] for metrics in beside]) for metric in METRICS]
        table.add_row(f"{baseline} ({first}'s columns)", *cells, "", "")
    Console(width=WIDTH).print(table)


def _cell(means: list[dict[str, Any]]) -> str:
    """Return the mean over seeds, with the interval's ends and half the range of the seeds."""
    values = [mean["value"] for mean in means]
    if None in values:
        return "not defined"
    notes = []
    if all(mean["interval"] for mean in means):
        low, high = (fmean(mean["interval"][end] for mean in means) for end in (0, 1))
        notes.append(f"{low:.3f} to {high:.3f}")
    if len(values) > 1:
        notes.append(f"±{(max(values) - min(values)) / 2:.3f}")
    return f"{fmean(values):.3f}" + (f" ({', '.join(notes)})" if notes else "")


def main(
    what: Annotated[str, typer.Argument(help=f"One of: {', '.join(SETS)}.")],
    lake: LakeFolder,
    first: FirstNight,
    last: LastNight,
    results: Annotated[str, typer.Option(help="File that keeps the results.")] = "results.jsonl",
    num_workers: Annotated[int, typer.Option(help="Training processes.")] = 1,
) -> None:
    """Backtest all configs of a set and print them as one table."""
    from jobs.backtest import BacktestPlan

    if what not in SETS:
        raise typer.BadParameter(f"{what} is not one of: {', '.join(SETS)}")
    dates = dates_between(first, last)
    known = read_results(Path(results))
    lines: list[dict[str, Any]] = []
    configs = SETS[what]()
    with open_lake(lake) as opened:
        for config in configs:
            # The first recipe has the most columns; baselines are fitted for each of its seeds.
            baselines = what in WITH_BASELINES and config.recipe == configs[0].recipe
            plan = BacktestPlan(dates, config.recipe, config, num_workers, with_baselines=baselines)
            line = next((line for line in known if is_result_of(line, opened, plan)), None)
            if line is None:
                line = run_backtest(opened, plan)
                with Path(results).open("a") as file:
                    file.write(json.dumps(line) + "\n")
            lines.append(line)
    show(lines, f"{what}, {dates}")


if __name__ == "__main__":
    typer.run(main)
