"""Measure the cost of a supervised head's reasons: integrated gradients against scoring.

Generated cards pass through an untrained model of the semi-supervised recipe. By turns and over the
same events: the autoencoder and the head's log odds, and each column's share of the log odds.

    python tests/benchmarks/attribution_cost.py --num-cards 500

The last line is one JSON object: `seconds_per_1000_alerts` of the shares alone, and
`attribution_ratio`, the median time of the shares over that of scoring the same events.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from training_feed import encoding_of, events_of

from fraud_models.networks.fraud_head import FraudHead
from fraud_models.recipes import recipe
from fraud_models.scoring.reconstruction import Reconstructor
from fraud_models.sequences.event_batch import TARGET, ContextLimits, iter_contexts

RECIPE = "semi_supervised_autoencoder"


def main(
    num_cards: Annotated[
        int, typer.Option(help="Number of cards, with about a hundred events each.")
    ] = 500,
    num_rounds: Annotated[int, typer.Option(help="Measurements of each kind.")] = 5,
) -> None:
    """Measure and print the ratio."""
    config = recipe(RECIPE)
    events = events_of(num_cards, config)
    encoding = encoding_of(events, config)
    model, head = (
        Reconstructor(config, encoding).eval(),
        FraudHead.from_config(config, encoding).eval(),
    )
    batches = list(iter_contexts([events], config.columns, ContextLimits.from_config(config)))
    head_inputs: list[Any] = []

    def score() -> None:
        head_inputs.clear()
        with torch.no_grad():
            for batch in batches:
                chosen = torch.from_numpy(batch.roles == TARGET)
                decoded = model(torch.from_numpy(batch.values), chosen)
                head_inputs.append(
                    head.inputs(decoded.channels, decoded.errors, decoded.codes, decoded.categories)
                )
                head(head_inputs[-1])

    def attribute() -> None:
        for inputs in head_inputs:
            head.contributions(inputs)

    kinds: dict[str, Callable[[], None]] = {"scoring": score, "attribution": attribute}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(num_rounds + 1):
        for kind, work in kinds.items():
            started = time.monotonic()
            work()
            # The first round is a warm-up.
            if number:
                seconds[kind].append(time.monotonic() - started)
    medians = {kind: statistics.median(taken) for kind, taken in seconds.items()}
    num_events = sum(len(inputs) for inputs in head_inputs)
    result = {
        "num_events": num_events,
        "scoring_s": round(medians["scoring"], 3),
        "seconds_per_1000_alerts": round(1000 * medians["attribution"] / num_events, 4),
        "attribution_ratio": round(medians["attribution"] / medians["scoring"], 3),
    }
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
