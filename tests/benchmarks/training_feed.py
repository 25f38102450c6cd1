"""What feeding a training from Petastorm costs, beside the same loop on tensors in memory.

A snapshot of made-up cards is written once. Then epochs of the recipe's own training run by turns:
fed by Petastorm as `train` does, and fed with the very same batches, loaded before the clock
starts. Everything else is the same: the loop, the network, the state that is written. Where there
is a GPU, epochs in memory in float32 and on the CPU take their turns too.

    python tests/benchmarks/training_feed.py --num-cards 3000

The last line is one JSON object; `feed_ratio` is the median epoch in memory over the median epoch
from Petastorm: 1 means that feeding costs nothing. `bf16_speedup` and `gpu_speedup` are those of an
epoch in float32 and of one on the CPU over the same on the GPU in bfloat16.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import typer

from feature_defs.catalogue import FEATURES
from feature_defs.feature import Kind
from fraud_models.config import ModelConfig
from fraud_models.recipes import recipe
from fraud_models.sequences.encoding import ColumnStatistics, Encoding
from fraud_models.sequences.event_batch import ContextLimits, pack_contexts
from fraud_models.training import loop, passes
from fraud_models.training.petastorm_reader import RowCount, Shard, read_batches
from fraud_models.training.snapshot import (
    DATA_FOLDER,
    Manifest,
    read_manifest,
    summarise,
    write_manifest,
)

NUM_FILES = 8
EVENTS_PER_CARD = 100
SEED = 11


def events_of(num_cards: int, config: ModelConfig) -> pa.RecordBatch:
    """A sorted stream: the last third of each card's events are targets, then validation."""
    rng = np.random.default_rng(SEED)
    lengths = rng.poisson(EVENTS_PER_CARD, num_cards) + 1
    step = np.concatenate([np.arange(length) for length in lengths])
    share = step / np.repeat(lengths, lengths)
    num_rows = len(step)
    columns = {name: pa.array(_values(name, rng, num_rows)) for name in config.columns}
    return pa.RecordBatch.from_pydict(
        {
            "card_id": pa.array(np.repeat([f"c{i:07d}" for i in range(num_cards)], lengths)),
            "period": pa.array(np.zeros(num_rows, dtype=np.int32)),
            "event_time": pa.array((step * 3_600_000_000).astype("datetime64[us]")),
            "transaction_id": pa.array([f"t{i:09d}" for i in range(num_rows)]),
            "role": pa.array(np.select([share > 0.9, share > 0.5], [2, 1], 0).astype(np.int32)),
            **columns,
        }
    )


def _values(name: str, rng: np.random.Generator, num_rows: int) -> np.ndarray:
    if FEATURES[name].kind is Kind.PROBABILITY:
        return rng.beta(1.0, 20.0, num_rows)
    return rng.gamma(2.0, 20.0, num_rows)


def encoding_of(events: pa.RecordBatch, config: ModelConfig) -> Encoding:
    """Fitted on all events."""
    probabilities = np.linspace(0, 1, 101)
    statistics_of = {
        name: ColumnStatistics(
            events.num_rows, 0, tuple(np.quantile(events.column(name).to_numpy(), probabilities))
        )
        for name in config.columns
    }
    return Encoding.fit(config.columns, statistics_of)


def write_snapshot(place: Path, num_cards: int, config: ModelConfig) -> str:
    """Equal files of one row group, dealt in turn, as Spark writes them."""
    events = events_of(num_cards, config)
    limits = ContextLimits.of(config)
    packed = pa.Table.from_batches(pack_contexts([events], config.columns, limits))
    data = place / DATA_FOLDER
    data.mkdir(parents=True)
    for number in range(NUM_FILES):
        rows = np.arange(number, packed.num_rows, NUM_FILES)
        pq.write_table(packed.take(rows), data / f"part-{number:05d}.parquet")
    manifest = Manifest(
        summary=summarise(str(place)),
        columns={name: f"mark-{name}" for name in config.columns},
        encoding=encoding_of(events, config),
        data_versions={"features": 0},
        as_of="2024-01-01",
        world_size=1,
    )
    write_manifest(str(place), manifest)
    return str(place)


def in_memory(snapshot: str, config: ModelConfig) -> Any:
    """A feed of the first epoch's batches, loaded now."""
    shard, counted = Shard(snapshot, read_manifest(snapshot), 0, 1), RowCount()
    batches = list(read_batches(shard, config.optimisation, 1, counted))

    def feed(shard: Shard, optimisation: Any, epoch: int, seen: RowCount) -> Iterator[Any]:
        seen.num_rows += counted.num_rows
        yield from batches

    return feed


@dataclass(frozen=True)
class Way:
    """A way to run an epoch."""

    feed: Any
    use_gpu: bool = True
    mixed_precision: bool = True

    def epoch(self, snapshot: str, config: ModelConfig) -> dict[str, Any]:
        """What a fresh training of one epoch says of itself."""
        with tempfile.TemporaryDirectory() as run_dir:
            passes.read_batches = self.feed
            return loop.train(
                loop.TrainingRun(
                    snapshot,
                    run_dir,
                    config,
                    use_gpu=self.use_gpu,
                    mixed_precision=self.mixed_precision,
                )
            )


def ways_of(snapshot: str, config: ModelConfig) -> dict[str, Way]:
    """By what is told of them."""
    preloaded = in_memory(snapshot, config)
    ways = {"petastorm": Way(read_batches), "in_memory": Way(preloaded)}
    if torch.cuda.is_available():
        ways["float32"] = Way(preloaded, mixed_precision=False)
        ways["cpu"] = Way(preloaded, use_gpu=False)
    return ways


def main(
    num_cards: Annotated[int, typer.Option(help="Sequences in the snapshot.")] = 3000,
    num_rounds: Annotated[int, typer.Option(help="Epochs of each kind.")] = 5,
    name: Annotated[str, typer.Option("--recipe", help="Whose network.")] = "lstm_autoencoder",
    hidden_width: Annotated[int, typer.Option(help="Of the network; 0: the recipe's.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Sequences of a step; 0: the recipe's.")] = 0,
) -> None:
    """Measure and print."""
    config = recipe(name)
    network, optimisation = config.network, replace(config.optimisation, epochs=1)
    network = replace(network, hidden_width=hidden_width or network.hidden_width)
    optimisation = replace(optimisation, batch_size=batch_size or optimisation.batch_size)
    config = replace(config, network=network, optimisation=optimisation)
    with tempfile.TemporaryDirectory() as place:
        snapshot = write_snapshot(Path(place, "snapshot"), num_cards, config)
        ways = ways_of(snapshot, config)
        seconds: dict[str, list[float]] = {kind: [] for kind in ways}
        told: dict[str, dict[str, Any]] = {}
        for number in range(num_rounds + 1):
            for kind, way in ways.items():
                told[kind] = way.epoch(snapshot, config)
                (epoch,) = told[kind]["history"]
                # The first round warms up.
                if number:
                    seconds[kind].append(epoch["seconds"])
                    typer.echo(
                        f"round {number}, {kind}: {epoch['seconds']:.2f} s, "
                        f"loss {epoch['train_loss']:.4f}, {told[kind]['device']}"
                    )
        events = read_manifest(snapshot).summary.num_events
    medians = {kind: statistics.median(taken) for kind, taken in seconds.items()}
    result = {
        "recipe": name,
        "hidden_width": network.hidden_width,
        "batch_size": optimisation.batch_size,
        "num_events": events,
        "device": told["petastorm"]["device"],
        "precision": told["petastorm"]["precision"],
        **{f"{kind}_s": round(median, 3) for kind, median in medians.items()},
        "feed_ratio": round(medians["in_memory"] / medians["petastorm"], 3),
    }
    for ratio, kind in (("bf16_speedup", "float32"), ("gpu_speedup", "cpu")):
        if kind in medians:
            result[ratio] = round(medians[kind] / medians["in_memory"], 3)
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
