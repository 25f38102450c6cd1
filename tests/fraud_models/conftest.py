"""Small streams, snapshots and models for several tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from fraud_models.config import (
    BY_ERROR,
    BY_HEAD,
    BY_RARITY,
    RANKINGS,
    SEMI_SUPERVISED,
    HeadConfig,
    ModelConfig,
    NetworkConfig,
)
from fraud_models.networks import build
from fraud_models.networks.fraud_head import FraudHead
from fraud_models.recipes import lstm_autoencoder
from fraud_models.scoring.calibration import PROBABILITIES, Calibration
from fraud_models.scoring.rarity import Rarities
from fraud_models.scoring.trained_model import TrainedModel
from fraud_models.sequences.encoding import ColumnStatistics, Encoding
from fraud_models.sequences.event_batch import (
    KNOWN_FRAUD,
    KNOWN_GENUINE,
    ContextLimits,
    pack_contexts,
)
from fraud_models.training.snapshot import Manifest, summarise, write_manifest

COLUMNS = (
    "transaction_amount",
    "transaction_hour_of_day",
    "card_count_7d",
    "merchant_fraud_rate_7d_delay_7d",
)
LIMITS = ContextLimits(max_events=16, warm_up_events=4, events_per_batch=128)
FINGERPRINTS = {name: f"mark-{name}" for name in COLUMNS}


def make_stream(
    lengths: list[int], seed: int = 1, missing: float = 0.1, labelled: bool = False
) -> pa.RecordBatch:
    """Return a sorted stream with one context per length; the last events of each are targets.

    If `labelled`, events at a merchant with a fraud rate above 0 are frauds, and not targets.
    """
    rng = np.random.default_rng(seed)
    num_rows = sum(lengths)
    card = np.repeat([f"card-{i:04d}" for i in range(len(lengths))], lengths)
    step = np.concatenate([np.arange(n) for n in lengths]) if lengths else np.empty(0)
    share = step / np.repeat(lengths, lengths)
    role = np.where(share > 0.85, 2, np.where(share > 0.6, 1, 0)).astype(np.int32)
    amount = np.exp(rng.normal(3, 1, num_rows))
    hour = rng.uniform(0, 24, num_rows)
    rate = np.where(rng.random(num_rows) < 0.05, rng.random(num_rows), 0.0)
    if labelled:
        role = np.where(rate > 0, KNOWN_FRAUD, role + KNOWN_GENUINE)
    second = (step * 3600).astype("int64")
    return pa.RecordBatch.from_arrays(
        [
            pa.array(card.tolist(), pa.string()),
            pa.array(np.full(num_rows, 7, dtype=np.int32)),
            pa.array((second * 1_000_000).astype("datetime64[us]"), pa.timestamp("us", "UTC")),
            pa.array([f"tx-{i:06d}" for i in range(num_rows)]),
            pa.array(role),
            pa.array(amount, mask=rng.random(num_rows) < missing),
            pa.array(hour),
            pa.array((step % 9).astype("int64"), mask=rng.random(num_rows) < missing),
            pa.array(rate),
        ],
        names=["card_id", "period", "event_time", "transaction_id", "role", *COLUMNS],
    )


def split(batch: pa.RecordBatch, cuts: list[int]) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in several batches."""
    edges = sorted({0, batch.num_rows, *(cut % (batch.num_rows + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        yield batch.slice(start, end - start)


def small_config() -> ModelConfig:
    """Return the config of a model with a few hundred weights over four columns."""
    base = lstm_autoencoder()
    return replace(
        base,
        network=NetworkConfig(hidden_width=12, code_width=2, scale_floor=0.1),
        optimisation=replace(
            base.optimisation, epochs=3, batch_size=8, events_per_batch=4096, patience=3
        ),
        columns=COLUMNS,
        max_context_events=LIMITS.max_events,
        warm_up_events=LIMITS.warm_up_events,
    )


def small_encoding() -> Encoding:
    """Return an encoding that is fitted on plausible quantiles of the four columns."""
    p = np.linspace(0, 1, 101)
    quantiles = {
        "transaction_amount": np.exp(3 + 2 * (p - 0.5)),
        "transaction_hour_of_day": 24 * p,
        "card_count_7d": np.floor(9 * p),
        "merchant_fraud_rate_7d_delay_7d": np.where(p > 0.95, p - 0.9, 0.0),
    }
    return Encoding.fit(
        COLUMNS, {name: ColumnStatistics(1000, 0, tuple(q)) for name, q in quantiles.items()}
    )


def small_calibration() -> Calibration:
    """Return a calibration for exponential ranking values with mean 2."""
    quantiles = [-2.0 * float(np.log1p(-p)) for p in PROBABILITIES]
    return Calibration.fit(PROBABILITIES, quantiles, 100_000)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Use one torch thread: for tiny models more threads are slower."""
    torch.set_num_threads(1)


@pytest.fixture
def model() -> TrainedModel:
    """Return an untrained but complete model."""
    config, encoding = small_config(), small_encoding()
    torch.manual_seed(3)
    network = build(config.network, encoding.num_inputs, encoding.num_channels)
    return TrainedModel(
        config=config,
        encoding=encoding,
        columns=FINGERPRINTS,
        data_versions={"features": 4},
        as_of="2018-07-04",
        weights=network.state_dict(),
        calibration=small_calibration().with_alert_thresholds([[0.9, 0.8, 0.7], [0.95, 0.6, 0.5]]),
        training={"best_epoch": 1},
    )


@pytest.fixture(params=RANKINGS)
def any_model(request: pytest.FixtureRequest, model: TrainedModel) -> TrainedModel:
    """Return the same model with each kind of ranking."""
    return ranking_by(request.param, model)


def ranking_by(ranking: str, model: TrainedModel) -> TrainedModel:
    """Return the same model with another kind of ranking."""
    if ranking == BY_ERROR:
        return model
    if ranking == BY_RARITY:
        ranked = ("transaction_amount", "merchant_fraud_rate_7d_delay_7d")
        weights = {ranked[1]: 0.3}
        quantiles = [-float(np.log1p(-p)) for p in PROBABILITIES]
        return replace(
            model,
            config=replace(
                model.config, ranking=BY_RARITY, ranked_columns=ranked, rarity_weights=weights
            ),
            rarities=Rarities.fit(dict.fromkeys(ranked, quantiles), 100_000, weights),
        )
    config = semi_supervised(model.config)
    torch.manual_seed(4)
    head = FraudHead.from_config(config, model.encoding)
    # Larger than fresh weights, so that scores differ.
    weights = {f"head.{name}": 3 * weight for name, weight in head.state_dict().items()}
    return replace(model, config=config, weights={**model.weights, **weights})


def semi_supervised(config: ModelConfig) -> ModelConfig:
    """Return the config with a small head."""
    head = HeadConfig(hidden_width=8, epochs=3, knots=(-8.0, -1.0, 0.0, 1.0, 8.0))
    return replace(config, supervision=SEMI_SUPERVISED, ranking=BY_HEAD, head=head)


@dataclass(frozen=True)
class SnapshotFactory:
    """Writes a snapshot to a folder."""

    folder: Path

    def write(self, lengths: list[int], num_files: int, labelled: bool = False) -> str:
        """Write a snapshot with one context per length, distributed over files; return its URI."""
        stream = [make_stream(lengths, labelled=labelled)]
        packed = pa.Table.from_batches(pack_contexts(stream, COLUMNS, LIMITS))
        data = self.folder / "data"
        data.mkdir(parents=True)
        for number in range(num_files):
            rows = np.arange(number, packed.num_rows, num_files)
            pq.write_table(packed.take(rows), data / f"part-{number:05d}.parquet")
        manifest = Manifest(
            summary=summarise(str(self.folder)),
            columns=FINGERPRINTS,
            encoding=small_encoding(),
            data_versions={"features": 4},
            as_of="2018-07-04",
            world_size=2,
        )
        write_manifest(str(self.folder), manifest)
        return str(self.folder)


@pytest.fixture
def write_snapshot(tmp_path: Path) -> Callable[..., str]:
    """Return a function that writes a snapshot: lengths of contexts, number of files, labelled."""
    return SnapshotFactory(tmp_path / "snapshot").write
