"""A rank's passes over its events, in steps that all ranks take together until none has any left.

A pass reads the snapshot through Petastorm and checks that it read every row. If a phase trains a
head on a frozen autoencoder, one pass collects the head's data set and later passes read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from fraud_models.config import ModelConfig
from fraud_models.training.head_dataset import HeadDataset, empty_head_step
from fraud_models.training.petastorm_reader import RowCount, Shard, check_num_rows, read_batches
from fraud_models.training.phases import Phase
from fraud_models.training.prefetch import (
    EventSelector,
    Step,
    empty_batch,
    prefetched,
    training_steps,
)
from fraud_models.training.process_group import Ranks

# Epoch number of the pass that collects the head's data set. It seeds the order of rows, so the
# data set is the same after a restart in any epoch; real epochs start at 1.
COLLECTION_EPOCH = 0


@dataclass
class Passes:
    """All passes of one rank in one training."""

    shard: Shard
    config: ModelConfig
    ranks: Ranks
    report: Callable[[str], None]
    """Called with the progress of a pass."""
    head_dataset: HeadDataset | None = None
    """Collected in the first pass of the head's phase."""

    def steps(self, phase: Phase, epoch: int, select: EventSelector) -> Iterator[Step]:
        """Return one pass over the selected events, in an order that depends on the epoch.

        Raises:
            InputMissing: the reader lost rows; train again, or write the snapshot again.
        """
        if phase.frozen is None:
            return self._read(epoch, select)
        if self.head_dataset is None:
            self.head_dataset = self._collect(phase, select)
        rng = np.random.default_rng([self.config.optimisation.seed, epoch, self.ranks.rank])
        per_rank = -(-self.config.head.batch_size // self.ranks.world_size)
        steps = prefetched(self.head_dataset.steps(per_rank, rng))
        return self._in_lockstep(steps, empty_head_step(self.head_dataset.width))

    def _read(self, epoch: int, select: EventSelector) -> Iterator[Step]:
        counted = RowCount()
        batches = read_batches(self.shard, self.config.optimisation, epoch, counted)
        steps = prefetched(training_steps(batches, select))
        yield from self._in_lockstep(steps, empty_batch(len(self.config.columns)))
        (num_rows,) = self.ranks.sum(counted.num_rows)
        check_num_rows(self.shard, int(num_rows))

    def _collect(self, phase: Phase, select: EventSelector) -> HeadDataset:
        assert phase.frozen is not None
        frozen, device = phase.frozen.eval(), self.ranks.device
        encoding, code_width = frozen.encoding, frozen.network.code_width
        num_columns = len(encoding.columns) + len(encoding.categorical)
        dataset = HeadDataset(encoding.num_channels + num_columns + code_width)
        steps = self._read(COLLECTION_EPOCH, select)
        for number, (values, weights, labels) in enumerate(steps, start=1):
            selected = weights > 0
            with torch.no_grad():
                dataset.add(frozen(values.to(device), selected.to(device)), labels[selected])
            self.report(f"{phase.name}, collecting, batch {number}")
        return dataset

    def _in_lockstep(self, steps: Iterator[Step], empty_step: Step) -> Iterator[Step]:
        """Yield steps until no rank has any left; `empty_step` if only other ranks have some."""
        while True:
            step = next(steps, None)
            (num_left,) = self.ranks.sum(float(step is not None))
            if num_left == 0:
                return
            yield step if step is not None else empty_step
