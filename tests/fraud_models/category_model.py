"""A small model that reads two categorical columns, with streams and features for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from feature_defs.catalogue import FEATURES
from feature_defs.feature import Feature, Kind
from fraud_models.config import ModelConfig
from fraud_models.networks import build
from fraud_models.scoring.calibration import PROBABILITIES
from fraud_models.scoring.rarity import Rarities
from fraud_models.scoring.trained_model import TrainedModel
from fraud_models.sequences.encoding import Encoding, FeatureScale
from fraud_models.sequences.event_batch import pack_contexts
from fraud_models.sequences.vocabulary import Vocabulary
from fraud_models.training.snapshot import Manifest, summarise, write_manifest
from tests.fraud_models.conftest import (
    COLUMNS,
    LIMITS,
    make_stream,
    ranking_by,
    small_calibration,
    small_config,
    small_encoding,
)

PLACE, CHANNEL = "transaction_place", "transaction_till"
# Not at the end, so that a mix-up of columns and channels shows.
CATEGORY_COLUMNS = (PLACE, COLUMNS[0], COLUMNS[1], CHANNEL, COLUMNS[2], COLUMNS[3])
PLACES = Vocabulary(("home", "town", "resort"), 0.1)
CHANNELS = Vocabulary(("shop", "online"))
VOCABULARIES = {PLACE: PLACES, CHANNEL: CHANNELS}
FINGERPRINTS = {name: f"mark-{name}" for name in CATEGORY_COLUMNS}
CATEGORY_FEATURES = {
    PLACE: Feature(PLACE, Kind.CATEGORY, "Where the payment was made."),
    CHANNEL: Feature(CHANNEL, Kind.CATEGORY, "How the payment was made."),
}


@contextmanager
def features_in_the_catalogue(features: dict[str, Feature]) -> Iterator[None]:
    """Add features to the catalogue, as a bank's own definitions do."""
    assert not set(features) & set(FEATURES)
    FEATURES.update(features)
    try:
        yield
    finally:
        for name in features:
            del FEATURES[name]


def category_stream(lengths: list[int], seed: int = 1, labelled: bool = False) -> pa.RecordBatch:
    """Return `make_stream` with two columns of text: a tenth missing, a tenth never seen before."""
    stream = make_stream(lengths, seed, labelled=labelled)
    rng = np.random.default_rng(seed + 100)
    columns = dict(zip(stream.schema.names, stream.columns, strict=True))
    for name, vocabulary in VOCABULARIES.items():
        values = rng.choice([*vocabulary.values, "abroad"], stream.num_rows)
        columns[name] = pa.array(values, mask=rng.random(stream.num_rows) < 0.1)
    return pa.RecordBatch.from_pydict(columns)


def category_config() -> ModelConfig:
    """Return the small config with the categorical columns."""
    base = small_config()
    return replace(base, columns=CATEGORY_COLUMNS, network=replace(base.network, category_width=3))


def category_encoding() -> Encoding:
    """Return the encoding of the small model with the categorical columns."""
    scales = {scale.name: scale for scale in small_encoding().features}
    for name, vocabulary in VOCABULARIES.items():
        scales[name] = FeatureScale(name, Kind.CATEGORY, 0.0, 1.0, vocabulary)
    return Encoding(tuple(scales[name] for name in CATEGORY_COLUMNS))


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Fill the vectors of classes, which start at 0, as if they were trained."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.startswith("embeddings"):
                weight += torch.randn_like(weight)
    return module


def category_model(ranking: str = "reconstruction_error") -> TrainedModel:
    """Return an untrained but complete model that reads categories."""
    config, encoding = category_config(), category_encoding()
    torch.manual_seed(3)
    network = randomised(
        build(config.network, encoding.num_inputs, encoding.num_channels, encoding.class_counts)
    )
    model = TrainedModel(
        config=config,
        encoding=encoding,
        columns=FINGERPRINTS,
        data_versions={"features": 4},
        as_of="2018-07-04",
        weights=network.state_dict(),
        calibration=small_calibration(),
    )
    model = ranking_by(ranking, model)
    if model.rarities is not None:
        ranked, weights = (*model.config.ranked, PLACE), model.config.rarity_weights
        quantiles = [-float(np.log1p(-p)) for p in PROBABILITIES]
        rarities = Rarities.fit(dict.fromkeys(ranked, quantiles), 100_000, weights)
        config = replace(model.config, ranked_columns=ranked)
        model = replace(model, config=config, rarities=rarities)
    # The vectors of a head start at 0 as well; the last one, of a missing value, stays 0.
    rng = torch.Generator().manual_seed(5)
    weights = dict(model.weights)
    for name in weights:
        if name.startswith("head.embeddings"):
            weights[name] = torch.randn(weights[name].shape, generator=rng)
            weights[name][-1] = 0.0
    return replace(model, weights=weights)


def write_category_snapshot(folder: Path, stream: pa.RecordBatch, encoding: Encoding) -> str:
    """Write a snapshot of a stream with categories in two files; return its URI."""
    packed = pa.Table.from_batches(
        pack_contexts([stream], encoding.columns, LIMITS, encoding.vocabularies)
    )
    data = folder / "data"
    data.mkdir(parents=True)
    for number in range(2):
        rows = np.arange(number, packed.num_rows, 2)
        pq.write_table(packed.take(rows), data / f"part-{number:05d}.parquet")
    manifest = Manifest(
        summary=summarise(str(folder)),
        columns={name: f"mark-{name}" for name in encoding.columns},
        encoding=encoding,
        data_versions={"features": 4},
        as_of="2018-07-04",
        world_size=2,
    )
    write_manifest(str(folder), manifest)
    return str(folder)


def habit_stream(num_cards: int, seed: int) -> tuple[pa.RecordBatch, np.ndarray]:
    """Return a stream whose cards have a usual place each, and which events are elsewhere [N].

    One event in ten is at a place chosen at random. All places are equally frequent.
    """
    length = 16
    stream = make_stream([length] * num_cards, seed)
    rng = np.random.default_rng(seed + 7)
    usual = np.repeat(rng.integers(0, len(PLACES.values), num_cards), length)
    elsewhere = rng.random(stream.num_rows) < 0.1
    place = np.where(elsewhere, rng.integers(0, len(PLACES.values), stream.num_rows), usual)
    columns = dict(zip(stream.schema.names, stream.columns, strict=True))
    columns[PLACE] = pa.array(np.array(PLACES.values)[place])
    columns[CHANNEL] = pa.array(rng.choice(CHANNELS.values, stream.num_rows))
    return pa.RecordBatch.from_pydict(columns), place != usual
