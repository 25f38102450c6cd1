"""Measure the cost of reading training data through Petastorm, against tensors in memory.

A snapshot of generated cards is written once. Then epochs of the recipe's own training run by
turns: from Petastorm as in `train`, and from the same batches, loaded before the clock starts. All
else is equal: the loop, the network, the state that is written. With a GPU, epochs from memory in
float32 and on the CPU run too.

    python tests/benchmarks/training_feed.py --num-cards 3000

The last line is one JSON object; `feed_ratio` is the median epoch from memory over the median epoch
from Petastorm: 1 means that reading costs nothing. `bf16_speedup` and `gpu_speedup` are the times
of an epoch in float32, and of one on the CPU, over the same on the GPU in bfloat16.
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
    """Return a sorted stream; each card has context first, then targets, then validation."""
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
    """Fit the encoding on all events."""
    probabilities = np.linspace(0, 1, 101)
    statistics_of = {
        name: ColumnStatistics(
            events.num_rows, 0, tuple(np.quantile(events.column(name).to_numpy(), probabilities))
        )
        for name in config.columns
    }
    return Encoding.fit(config.columns, statistics_of)


def write_snapshot(folder: Path, num_cards: int, config: ModelConfig) -> str:
    """Write a snapshot in files of one row group, filled by turns, as Spark writes them."""
    events = events_of(num_cards, config)
    limits = ContextLimits.from_config(config)
    packed = pa.Table.from_batches(pack_contexts([events], config.columns, limits))
    data = folder / DATA_FOLDER
    data.mkdir(parents=True)
    for number in range(NUM_FILES):
        rows = np.arange(number, packed.num_rows, NUM_FILES)
        pq.write_table(packed.take(rows), data / f"part-{number:05d}.parquet")
    manifest = Manifest(
        summary=summarise(str(folder)),
        columns={name: f"mark-{name}" for name in config.columns},
        encoding=encoding_of(events, config),
        data_versions={"features": 0},
        as_of="2024-01-01",
        world_size=1,
    )
    write_manifest(str(folder), manifest)
    return str(folder)


def in_memory(snapshot: str, config: ModelConfig) -> Any:
    """Load the first epoch's batches now; return a feed that yields them."""
    shard, counted = Shard(snapshot, read_manifest(snapshot), 0, 1), RowCount()
    batches = list(read_batches(shard, config.optimisation, 1, counted))

    def feed(shard: Shard, optimisation: Any, epoch: int, seen: RowCount) -> Iterator[Any]:
        seen.num_rows += counted.num_rows
        yield from batches

    return feed


@dataclass(frozen=True)
class Variant:
    """How an epoch is run: its feed, device and precision."""

    feed: Any
    use_gpu: bool = True
    mixed_precision: bool = True

    def epoch(self, snapshot: str, config: ModelConfig) -> dict[str, Any]:
        """Train a new model for one epoch; return its training record."""
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


def variants_of(snapshot: str, config: ModelConfig) -> dict[str, Variant]:
    """Return the variants of this machine by name."""
    preloaded = in_memory(snapshot, config)
    variants = {"petastorm": Variant(read_batches), "in_memory": Variant(preloaded)}
    if torch.cuda.is_available():
        variants["float32"] = Variant(preloaded, mixed_precision=False)
        variants["cpu"] = Variant(preloaded, use_gpu=False)
    return variants


def main(
    num_cards: Annotated[int, typer.Option(help="Number of cards in the snapshot.")] = 3000,
    num_rounds: Annotated[int, typer.Option(help="Epochs of each variant.")] = 5,
    name: Annotated[
        str, typer.Option("--recipe", help="Recipe of the network.")
    ] = "lstm_autoencoder",
    hidden_width: Annotated[int, typer.Option(help="Width of the network; 0: the recipe's.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Sequences per step; 0: the recipe's.")] = 0,
) -> None:
    """Measure and print the ratios."""
    config = recipe(name)
    network, optimisation = config.network, replace(config.optimisation, epochs=1)
    network = replace(network, hidden_width=hidden_width or network.hidden_width)
    optimisation = replace(optimisation, batch_size=batch_size or optimisation.batch_size)
    config = replace(config, network=network, optimisation=optimisation)
    with tempfile.TemporaryDirectory() as folder:
        snapshot = write_snapshot(Path(folder, "snapshot"), num_cards, config)
        variants = variants_of(snapshot, config)
        seconds: dict[str, list[float]] = {kind: [] for kind in variants}
        records: dict[str, dict[str, Any]] = {}
        for number in range(num_rounds + 1):
            for kind, variant in variants.items():
                records[kind] = variant.epoch(snapshot, config)
                (epoch,) = records[kind]["history"]
                # The first round is a warm-up.
                if number:
                    seconds[kind].append(epoch["seconds"])
                    typer.echo(
                        f"round {number}, {kind}: {epoch['seconds']:.2f} s, "
                        f"loss {epoch['train_loss']:.4f}, {records[kind]['device']}"
                    )
        events = read_manifest(snapshot).summary.num_events
    medians = {kind: statistics.median(taken) for kind, taken in seconds.items()}
    result = {
        "recipe": name,
        "hidden_width": network.hidden_width,
        "batch_size": optimisation.batch_size,
        "num_events": events,
        "device": records["petastorm"]["device"],
        "precision": records["petastorm"]["precision"],
        **{f"{kind}_s": round(median, 3) for kind, median in medians.items()},
        "feed_ratio": round(medians["in_memory"] / medians["petastorm"], 3),
    }
    for ratio, kind in (("bf16_speedup", "float32"), ("gpu_speedup", "cpu")):
        if kind in medians:
            result[ratio] = round(medians[kind] / medians["in_memory"], 3)
    typer.echo(json.dumps(result))


if __name__ == "__main__":
    typer.run(main)
