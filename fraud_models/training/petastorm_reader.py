"""Snapshot files to batches for one rank: the one door to Petastorm.

Decisions, each paid for by a measurement: petastorm 0.12.1 (0.13.1 loses row groups with its
thread pool); one reader thread, so that the same seed gives the same order; a new reader per
epoch, since a reader repeats its order; no TransformSpec and `np.frombuffer` over binary columns
(five times faster than lists through pandas); a queue of 8 row groups (50 by default would hold
the shard in memory). Whatever the library does, the rows read are counted, and the training
compares their number with the manifest's at the end of every epoch.
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
# Row groups whose rows are mixed before batches are made.
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
    """Rows that one pass has read so far."""

    num_rows: int = 0


@dataclass(frozen=True)
class _Row:
    num_events: int
    values: bytes
    roles: bytes


def read_batches(
    shard: Shard, optimisation: OptimisationConfig, epoch: int, counted: RowCount
) -> Iterator[EventBatch]:
    """One pass over the rank's rows in an order that follows from seed, epoch and rank.

    Batches hold rows of similar length, at most `batch_size / world_size` of them and
    `events_per_batch` padded events (a single longer row stands alone). Every row read is added
    to `counted`.
    """
    rng = np.random.default_rng([optimisation.seed, epoch, shard.rank])
    for pool in _pools(_row_groups(shard, optimisation.seed + epoch), counted):
        yield from _batches(pool, shard, optimisation, rng)


def check_num_rows(shard: Shard, num_rows: int) -> None:
    """Compare the rows that all ranks read in one pass with the manifest.

    Raises:
        InputMissing: they differ; the message says by how many.
    """
    expected = shard.manifest.summary.num_rows
    if num_rows != expected:
        raise InputMissing(
            f"An epoch read {num_rows} of {expected} rows of {shard.uri}: "
            f"{expected - num_rows} are missing.",
            expected="every row of the manifest once, over all ranks together.",
            remedy="train again; if it happens twice, check the version of petastorm (0.12.1) "
            "and write the snapshot again.",
        )


def _row_groups(shard: Shard, seed: int) -> Iterator[Any]:
    urls = [_url(join(shard.uri, DATA_FOLDER, file.name)) for file in shard.manifest.summary.files]
    with warnings.catch_warnings():
        # Petastorm uses Parquet interfaces that pyarrow 14 warns about on every file.
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
    # Petastorm does not unquote a URL, so a path goes in as it is.
    return f"file://{filesystem(uri)[1]}" if is_local(uri) else uri


def _pools(row_groups: Iterator[Any], counted: RowCount) -> Iterator[list[_Row]]:
    """Rows with a target from several row groups at a time."""
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
    most = -(-optimisation.batch_size // shard.world_size)
    # Shuffled first, so that rows of equal length meet other rows in every epoch.
    rows = [pool[i] for i in rng.permutation(len(pool))]
    rows.sort(key=lambda row: -row.num_events)
    groups: list[list[_Row]] = []
    start = 0
    while start < len(rows):
        fitting = max(1, optimisation.events_per_batch // rows[start].num_events)
        groups.append(rows[start : start + min(most, fitting)])
        start += len(groups[-1])
    for index in rng.permutation(len(groups)):
        group = groups[index]
        yield EventBatch.from_packed(
            [row.values for row in group],
            [row.roles for row in group],
            len(shard.manifest.columns),
        )
