"""What reasons of a supervised head cost: integrated gradients beside the scoring of their events.

Made-up cards go through a fresh model of the semi-supervised recipe. By turns, over the same
events: all that the autoencoder and the head's log odds take, and the shares of those log odds.

    python tests/benchmarks/attribution_cost.py --num-cards 500

The last line is one JSON object: `seconds_per_1000_alerts` of shares alone, and
`attribution_ratio`, the median time of shares over that of the scoring of the same events.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from training_feed import encoding_of, events_of

from fraud_models.networks.fraud_head import FraudHead
from fraud_models.recipes import recipe
from fraud_models.scoring.reconstruction import Reconstructor
from fraud_models.sequences.event_batch import TARGET, ContextLimits, iter_contexts

RECIPE = "semi_supervised_autoencoder"


def main(
    num_cards: Annotated[int, typer.Option(help="Contexts of about a hundred events.")] = 500,
    num_rounds: Annotated[int, typer.Option(help="Measurements of each kind.")] = 5,
) -> None:
    """Measure and print."""
    config = recipe(RECIPE)
    events = events_of(num_cards, config)
    encoding = encoding_of(events, config)
    model, head = Reconstructor(config, encoding).eval(), FraudHead.of(config, encoding).eval()
    batches = list(iter_contexts([events], config.columns, ContextLimits.of(config)))
    inputs = []

    def score() -> None:
        inputs.clear()
        with torch.no_grad():
            for batch in batches:
                chosen = torch.from_numpy(batch.roles == TARGET)
                found = model(torch.from_numpy(batch.values), chosen)
                inputs.append(head.inputs(found.channels, found.errors, found.codes))
                head(inputs[-1])

    def attribute() -> None:
        for read in inputs:
            head.contributions(read)

    kinds: dict[str, Callable[[], None]] = {"scoring": score, "attribution": attribute}
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(num_rounds + 1):
        for kind, work in kinds.items():
            began = time.monotonic()
            work()
            # The first round warms up.
            if number:
                seconds[kind].append(time.monotonic() - began)
    medians = {kind: statistics.median(taken) for kind, taken in seconds.items()}
    num_events = sum(len(read) for read in inputs)
    result = {
        "num_events": num_events,
        "scoring_s": round(medians["scoring"], 3),
        "seconds_per_1000_alerts": round(1000 * medians["attribution"] / num_events, 4),
        "attribution_ratio": round(medians["attribution"] / medians["scoring"], 3),
    }
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
