"""Read the batches of one rank from snapshot files. Only this module imports Petastorm.

Decisions, each based on a measurement: petastorm 0.12.1 (0.13.1 loses row groups with its thread
pool); one reader thread, so that the same seed gives the same order; a new reader per epoch,
because a reader repeats its order; no TransformSpec, and `np.frombuffer` on binary columns (five
times faster than lists through pandas); a queue of 8 row groups (the default of 50 would hold the
whole shard in memory). To detect loss of rows, the rows read are counted, and training compares
them with the manifest after every pass.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from petastorm import make_batch_reader

from feature_defs.errors import InputMissing
from fraud_models.config import OptimisationConfig
from fraud_models.sequences.event_batch import EventBatch
from fraud_models.storage import filesystem, is_local, join
from fraud_models.training.snapshot import DATA_FOLDER, Manifest

RESULTS_QUEUE_SIZE = 8
# Row groups whose rows are shuffled together before batches are formed.
POOLED_ROW_GROUPS = 8
COLUMNS = ("num_train", "num_validation", "values", "roles")


@dataclass(frozen=True)
class Shard:
    """A rank's part of a snapshot."""

    uri: str
    manifest: Manifest
    rank: int
    world_size: int


@dataclass
class RowCount:
    """Number of rows that one pass has read so far."""

    num_rows: int = 0


@dataclass(frozen=True)
class _Row:
    num_events: int
    values: bytes
    roles: bytes


def read_batches(
    shard: Shard, optimisation: OptimisationConfig, epoch: int, counted: RowCount
) -> Iterator[EventBatch]:
    """Yield one pass over the rank's rows, in an order determined by seed, epoch and rank.

    Batches contain rows of similar length: at most `batch_size / world_size` rows and
    `events_per_batch` padded events. A longer row is a batch of its own. `counted` is increased
    by every row read.
    """
    rng = np.random.default_rng([optimisation.seed, epoch, shard.rank])
    for pool in _pools(_row_groups(shard, optimisation.seed + epoch), counted):
        yield from _batches(pool, shard, optimisation, rng)


def check_num_rows(shard: Shard, num_rows: int) -> None:
    """Check that all ranks together read as many rows in one pass as the manifest has.

    Raises:
        InputMissing: the numbers differ; train again, or write the snapshot again.
    """
    expected = shard.manifest.summary.num_rows
    if num_rows != expected:
        raise InputMissing(
            f"An epoch read {num_rows} of {expected} rows of {shard.uri}: "
            f"{expected - num_rows} are missing.",
            expected="every row of the manifest once, over all ranks.",
            remedy="train again; if it happens twice, check the version of petastorm (0.12.1) "
            "and write the snapshot again.",
        )


def _row_groups(shard: Shard, seed: int) -> Iterator[Any]:
    urls = [_url(join(shard.uri, DATA_FOLDER, file.name)) for file in shard.manifest.summary.files]
    with warnings.catch_warnings():
        # Petastorm uses Parquet interfaces that are deprecated in pyarrow 14.
        warnings.simplefilter("ignore", FutureWarning)
        reader = make_batch_reader(
            urls,
            schema_fields=[f"^{name}$" for name in COLUMNS],
            reader_pool_type="thread",
            workers_count=1,
            results_queue_size=RESULTS_QUEUE_SIZE,
            shuffle_row_groups=True,
            seed=seed,
            cur_shard=shard.rank,
            shard_count=shard.world_size,
            num_epochs=1,
        )
        with reader:
            yield from reader


def _url(uri: str) -> str:
    # Petastorm does not unquote URLs, so the path must not be quoted.
    return f"file://{filesystem(uri)[1]}" if is_local(uri) else uri


def _pools(row_groups: Iterator[Any], counted: RowCount) -> Iterator[list[_Row]]:
    """Yield the rows of several row groups at a time."""
    pool: list[_Row] = []
    for number, group in enumerate(row_groups, start=1):
        counted.num_rows += len(group.roles)
        pool += [
            _Row(len(roles), values, roles)
            for values, roles in zip(group.values, group.roles, strict=True)
        ]
        if number % POOLED_ROW_GROUPS == 0:
            yield pool
            pool = []
    if pool:
        yield pool


def _batches(
    pool: list[_Row], shard: Shard, optimisation: OptimisationConfig, rng: np.random.Generator
) -> Iterator[EventBatch]:
    max_rows = -(-optimisation.batch_size // shard.world_size)
    # Shuffle before the stable sort, so that batches mix different rows in every epoch.
    rows = [pool[i] for i in rng.permutation(len(pool))]
    rows.sort(key=lambda row: -row.num_events)
    groups: list[list[_Row]] = []
    start = 0
    while start < len(rows):
        fitting = max(1, optimisation.events_per_batch // rows[start].num_events)
        groups.append(rows[start : start + min(max_rows, fitting)])
        start += len(groups[-1])
    for index in rng.permutation(len(groups)):
        group = groups[index]
        yield EventBatch.from_packed(
            [row.values for row in group],
            [row.roles for row in group],
            len(shard.manifest.columns),
        )
